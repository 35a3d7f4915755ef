"""The site's navigation from the pages that there are: known ones in groups, any other under its folder or "More"."""

GROUPS = {
    "Operate": ["operating", "configuration", "filters", "reports", "metrics", "deadletters", "companions"],
    "Validate": ["replay", "validate", "explain", "tune"],
    "Holds": ["reliability", "hostile", "performance", "scaling"],
    "Hosts": ["hosts/index", "hosts/README", "serve"],
    "Results": ["results", "results_ztf", "results/README"],
    "Inside": ["design", "training", "simulation"],
}
FOLDERS = {"hosts": "Hosts", "results": "Results"}
FRONT = "index"
MORE = "More"


def navigation(names):
    """What mkdocs takes as `nav`.

    Parameters
    ----------
    names : iterable of str
        Pages' paths under docs/, such as `hosts/fink.md`.

    Returns
    -------
    list
        {"Home": front page}, then {group: pages}; every page once, titles left to the pages' own headings.
    """
    left = sorted(name.removesuffix(".md") for name in names)
    groups = {title: [page for page in pages if page in left] for title, pages in GROUPS.items()}
    placed = {page for pages in groups.values() for page in pages} | {FRONT}
    for page in left:
        if page not in placed:
            title = FOLDERS.get(page.partition("/")[0], MORE) if "/" in page else MORE
            groups.setdefault(title, []).append(page)
    front = [{"Home": f"{FRONT}.md"}] if FRONT in left else []
    return front + [{title: [f"{page}.md" for page in pages]} for title, pages in groups.items() if pages]


def on_files(files, config):
    """mkdocs' hook, before the navigation is read."""
    config.nav = navigation(page.src_uri for page in files.documentation_pages())
    return files
