"""The application that a TOM lists in INSTALLED_APPS."""

from django.apps import AppConfig


class DeepGraviLensConfig(AppConfig):
    """Offers the data service; the broker module needs no application."""

    name = "dgl_broker.hosts.tom"
    label = "deepgravilens"

    def data_services(self):
        """As tom_dataservices asks for them."""
        return [{"class": "dgl_broker.hosts.tom.service.DeepGraviLensDataService"}]
