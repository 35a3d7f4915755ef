"""Settings of a TOM for tests: TOM Toolkit's own, with a database in memory, our two modules, and pages for tom_alerts."""

from tom_base.settings import *  # noqa: F403

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
INSTALLED_APPS = [*INSTALLED_APPS, "tom_alerts", "dgl_broker.hosts.tom"]  # noqa: F405
ROOT_URLCONF = "tom_urls"
ALLOWED_HOSTS = ["testserver"]
TOM_ALERT_CLASSES = ["dgl_broker.hosts.tom.broker.DeepGraviLensBroker"]
LOGGING = {"version": 1, "disable_existing_loggers": False}
