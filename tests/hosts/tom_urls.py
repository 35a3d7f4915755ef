"""Pages of a TOM for tests: TOM Toolkit's own, and those of tom_alerts, which TOM Toolkit 3 leaves to the TOM."""

from django.urls import include, path
from tom_common.urls import urlpatterns as of_the_toolkit

urlpatterns = [path("alerts/", include("tom_alerts.urls", namespace="alerts")), *of_the_toolkit]
