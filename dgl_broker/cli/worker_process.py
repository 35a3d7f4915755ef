"""A worker of `run --workers` or `rekey --workers`. The supervisor starts it by this file's path; it is no verb."""

import sys
from pathlib import Path


def make_worker(job, stop, tell):
    """The worker of a job that `run` or `rekey` made."""
    from dgl_broker.stream.workers.telling import TellingWatch

    if job["verb"] == "rekey":
        from dgl_broker.settings_rekey import RekeySettings
        from dgl_broker.stream.rekey import RekeyWorker

        return RekeyWorker(RekeySettings.model_validate(job["settings"]), stop, watch=TellingWatch(tell, done="written"))
    from dgl_broker.cli.run import make_keeper
    from dgl_broker.settings import Settings
    from dgl_broker.stream.worker import Worker

    settings = Settings.model_validate(job["settings"])
    return Worker(settings, stop, keeper=make_keeper(settings.survey, **job["keep"]), watch=TellingWatch(tell))


def main():
    """Be a worker that tells through the descriptor of the command line; its exit code."""
    # Whatever lies in the folder that this was started from must not come before our own modules.
    root = str(Path(__file__).resolve().parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)
    from dgl_broker.stream.workers.process import work

    return work(int(sys.argv[1]), make_worker)


if __name__ == "__main__":
    raise SystemExit(main())
