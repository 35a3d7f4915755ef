"""Choosing thresholds and pre-cuts on replayed scores, and putting them into force: the page, its API and its commands.

`alerts` holds the tables, `ranked` one score of theirs in order, `precuts` who may pass, `counts` what passes a threshold.
`desk` puts them together with the filters' files; `app` and the command line only ask the desk.
"""
