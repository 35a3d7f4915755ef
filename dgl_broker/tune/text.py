"""Previews, filters and histories for a terminal."""


def preview_text(out):
    """A preview of `Desk.preview` as lines."""
    now, new = out["in_force"], out["proposed"]
    lines = [
        f"{out['filter']}   {out['score']} of bundle {out['bundle']['id']} ({out['bundle']['sha256'][:8]})",
        "",
        _row("", f"in force, version {now['version']}", "proposed" if out["changed"] else "proposed (the same)"),
        _row("threshold", f"{now['threshold']:.10g}", f"{out['threshold']:.10g}"),
        _row("candidates a night", _nightly(now), _nightly(new)),
        _row("worst night", _worst(now), _worst(new)),
        _row("completeness", _share(now["completeness"], "found"), _share(new["completeness"], "found")),
        _row("known negatives passing", _share(now["negatives"], "passing"), _share(new["negatives"], "passing")),
        _row("share of real alerts", _rate(now["stream"]), _rate(new["stream"])),
        _row(f"purity at {new['purity']['prevalence']:g}", _purity(now), _purity(new)) if new["purity"] else None,
    ]
    if out["operating_point"]:
        point = out["operating_point"]
        lines.append(f"threshold for {point['metric']}, measured on {point['of']}")
    lines += ["", *_splits(new["completeness"]), *_precuts(out["precuts"]), *_changes(out["changes"])]
    lines += ["guard", *(f"  {_mark(c['ok'])} {c['name']}: {c['text']}" for c in out["guard"])]
    return "\n".join(line for line in lines if line is not None)


def _row(name, a, b):
    return f"{name:26s} {a:>28s} {b:>28s}".rstrip()


def _nightly(counts):
    found = counts["candidates"]
    return "unknown" if found is None else f"{found['mean']:.4g} ({found['lo']:.3g} to {found['hi']:.3g})"


def _worst(counts):
    found = counts["candidates"]
    if found is None or not found["worst"]:
        return "unknown" if found is None else "0"
    return f"{found['worst']:.4g} on {found['worst_night']}"


def _share(found, key):
    if found is None or not found["n"]:
        return "unknown"
    return f"{found[key] / found['n']:.3g} ({found['lo']:.2g} to {found['hi']:.2g}), {found[key]} of {found['n']}"


def _rate(stream):
    return "unknown" if not stream["n"] else f"{stream['share']:.2g} ({stream['lo']:.1g} to {stream['hi']:.1g})"


def _purity(counts):
    found = counts["purity"]
    if found is None:
        return "unknown"
    if found["value"] is None:
        return f"at least {found['lo'] or 0.0:.2g}"
    return f"{found['value']:.2g} ({found['lo']:.1g} to {found['hi']:.1g})"


def _splits(found):
    if found is None or not found["bins"]:
        return []
    head = "".join(f"{b:>14s}" for b in found["bins"])
    lines = [f"{'completeness at detection':26s}{head}"]
    for row in found["rows"]:
        cells = "".join(f"{_cell(cell):>14s}" for cell in row["by_detections"])
        lines.append(f"  {row['class']:24s}{cells}")
    return [*lines, ""]


def _cell(cell):
    return "–" if not cell["n"] else f"{cell['value']:.2f} of {cell['n']}"


def _precuts(costs):
    if not costs:
        return []
    heads = ("lost supernovae", "kept away a night", "known negatives", "of all alerts")
    lines = [f"{'pre-cut, alone':26s}{heads[0]:>18s}{heads[1]:>20s}{heads[2]:>18s}{heads[3]:>16s}"]
    for c in costs:
        night = "–" if c["saved_per_night"] is None else f"{c['saved_per_night']:.3g}"
        share = "–" if c["stops_alone"] is None else f"{100 * c['stops_alone']:.2g} %"
        lines.append(f"  {c['criterion']:24s}{c['lost']:>18d}{night:>20s}{c['saved_negatives']:>18d}{share:>16s}")
    return [*lines, ""]


def _changes(found):
    lines = []
    for side in ("entering", "leaving"):
        s = found[side]
        lines.append(f"{side:26s} {s['alerts']} alerts of {s['objects']} objects; {s['lensed']} lensed supernovae")
    return [*lines, ""]


def _mark(ok):
    return {True: "ok     ", False: "REFUSED", None: "no limit"}[ok]


def filter_text(state):
    """A filter of `filter_state` as lines."""
    tuned = f"tuned for bundle {state['bundle_sha256'][:8]}" if state["bundle_sha256"] else "tuned for NO bundle"
    lines = [
        f"{state['name']} version {state['version']}: {state['score']} at least {state['threshold']:.10g}, {tuned}",
        f"  file       {state['file']}{' (ships with the package; copy it before you change it)' if state['shipped'] else ''}",
    ]
    point = state["operating_point"]
    if point:
        value = "not measured" if point["value"] is None else f"{point['value']:.4g}"
        between = f" ({point['lo']:.3g} to {point['hi']:.3g})" if None not in (point["lo"], point["hi"]) else ""
        lines.append(f"  measured   {point['metric']} {value}{between}, {point['data']}, {point['date']}")
    limits = [
        f"at most {state['max_candidates_per_night']:g} candidates a night"
        if state["max_candidates_per_night"] is not None
        else None,
        f"completeness at least {state['completeness_floor']:g}" if state["completeness_floor"] is not None else None,
    ]
    lines.append(f"  guards     {', '.join(limit for limit in limits if limit) or 'none'}")
    lines += [f"  pre-cut    {c['name']}: {c['words']}" for c in state["criteria"]]
    if not state["workers"]:
        lines.append("  workers    none reports")
    for w in state["workers"]:
        silent = ", SILENT" if w["silent"] else ""
        problem = f"; {w['problem']}" if w["problem"] else ""
        lines.append(f"  worker     {w['worker']}: version {w['version']} since {w['since']}{silent}{problem}")
    last = state["last_change"]
    if last:
        said = "; ".join(last["changes"]) or last["action"]
        lines.append(f"  changed    {last['when']} by {_plain(last['who'])}: {_plain(said)} ({_plain(last['why'])})")
    if state["broken_lines"]:
        lines.append(f"  audit log  lines {', '.join(map(str, state['broken_lines']))} cannot be read")
    return "\n".join(lines)


def history_text(changes):
    """Changes of `FilterFile.history` as lines, the newest first."""
    lines = []
    for c in changes:
        lines.append(f"version {c['version']}   {c['when']}   {_plain(c['who'])}   {_plain(c['action'])}")
        lines += [f"    {line}" for line in c["changes"] or ["the same"]]
        lines.append(f"    why: {_plain(c['why'])}")
    return "\n".join(lines) or "no change yet"


def _plain(text):
    """What people wrote, unable to steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def carried_text(carried, path=None):
    """A carried filter as lines."""
    before, after = carried.before, carried.after
    lines = [
        f"{carried.old.name}: version {carried.old.version} of bundle {carried.old.bundle_sha256[:8]}, "
        f"now for {carried.new.bundle_sha256[:8]}, by {carried.n_alerts} alerts that both have judged",
        f"kept: {carried.metric} {carried.value:.4g}",
        "",
        _row("", "before", "after"),
        _row("threshold", f"{carried.old.threshold:.10g}", f"{carried.new.threshold:.10g}"),
        _row("candidates a night", _nightly(before), _nightly(after)),
        _row("worst night", _worst(before), _worst(after)),
        _row("completeness", _share(before["completeness"], "found"), _share(after["completeness"], "found")),
        "",
        *_changes(carried.changes),
        f"staying                    {carried.changes['staying']} alerts",
    ]
    if path is not None:
        lines += ["", f"written to {path}: name it in `filters` of broker.yaml together with the new bundle"]
    return "\n".join(lines)
