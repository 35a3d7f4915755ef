"""The guards in words: each with what it found and what it wants, also where it is content."""


def guard_checks(new, counts, refused):
    """Each guard's word on a proposed filter.

    Parameters
    ----------
    new : Filter
    counts : dict
        `candidates` and `completeness` as `dgl_broker.tune.counts` gives them.
    refused : list of str
        All reasons against it; those that belong to no guard below come as they are.

    Returns
    -------
    list of dict
        `name`, `ok` (True, False, or None where the filter sets no limit), `text`.
    """
    nightly, found = counts["candidates"], counts["completeness"]
    limit, floor = new.max_candidates_per_night, new.completeness_floor
    out, told = [], []
    if limit is None:
        out.append(("nightly budget", None, "the filter sets no max_candidates_per_night"))
    elif nightly is None:
        out.append(("nightly budget", False, f"no reference night to hold the budget of {limit:g} against"))
    else:
        when = f" ({nightly['worst_night']})" if nightly["worst"] else ""
        text = f"worst night {nightly['worst']:.4g} of at most {limit:g}{when}"
        out.append(("nightly budget", nightly["worst"] <= limit, text))
    if floor is None:
        out.append(("completeness", None, "the filter sets no completeness_floor"))
    elif found is None:
        out.append(("completeness", False, f"no lensed supernovae to hold the floor of {floor:g} against"))
    else:
        text = f"{found['value']:.3g} of at least {floor:g}, on {found['n']} objects"
        out.append(("completeness", found["value"] >= floor, text))
    told += ["max_candidates_per_night", "completeness_floor"]
    bundles = [why for why in refused if "tuned for bundle" in why]
    out.append(("bundle", not bundles, bundles[0] if bundles else "the scores are of the bundle that it is tuned for"))
    others = [why for why in refused if why not in bundles and not any(word in why for word in told)]
    out += [("tables" if "replay with" in why else "file", False, why) for why in others]
    return [{"name": name, "ok": ok, "text": text} for name, ok, text in out]
