"""The closing summary of a replay for people, in which the accounts balance."""


def replay_text(summary):
    """Text of the summary that `Replay.run` gives, with `left_out` and `injected`."""
    from dgl_broker.observe.summary import summary_text

    s = summary
    balance, _, *by_reason = summary_text({**s, "ended": None}).splitlines()
    rate = f"{s['alerts_per_s'] or 0:.1f} alerts/s"
    lines = [_found(s), balance, f"candidates {s['candidates']}, {s['seconds']:.1f} s, {rate}", *by_reason]
    if s["injected"] is not None:
        lines.append(f"injected: {s['injected']} alerts, marked in the table and never published nor counted as candidates")
    if s["resumed_at"]:
        lines.append(f"gone on with: {s['resumed_at']} of them were done before")
    for file in s["files"]:
        lines.append(f"written: {file['name']}, {file['rows']} rows, sha256 {file['sha256'][:12]}")
    lines.append(f"ended: {s['ended']}")
    return "\n".join(lines)


def _found(s):
    left = {reason: n for reason, n in s["left_out"].items() if n}
    parts = [f"{s['selected']} selected", *(f"{n} {reason}" for reason, n in left.items())]
    line = f"found {s['found']} = " + " + ".join(parts)
    open_ = s["selected"] - s["consumed"]
    return f"{line}\nselected {s['selected']} = consumed {s['consumed']} + still to do {open_}" if open_ else line
