"""The module for `tom_alerts`: `TOM_ALERT_CLASSES = ["dgl_broker.hosts.tom.broker.DeepGraviLensBroker"]`."""

from crispy_forms.layout import Layout
from django.conf import settings
from requests import HTTPError
from tom_alerts.alerts import GenericAlert, GenericBroker, GenericQueryForm

from dgl_broker.errors import DglError
from dgl_broker.hosts.reported import link, utc_of
from dgl_broker.hosts.tom.asked import NAME, ReportFields, find_reports, save_scores, scores_of


class DeepGraviLensForm(ReportFields, GenericQueryForm):
    """A question for reports."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.helper.layout = Layout(self.common_layout, *ReportFields.base_fields)


class DeepGraviLensBroker(GenericBroker):
    """Reports of lensed-supernova candidates."""

    name = NAME
    form = DeepGraviLensForm
    score_description = "log odds, lensed supernova : everything else (a natural logarithm); rank by it"

    @property
    def place(self):
        """This broker's part of the settings; AttributeError, which TOM Toolkit answers with a hint, where there is none."""
        try:
            return settings.BROKERS[NAME]
        except KeyError as error:
            raise AttributeError(f"BROKERS has no {NAME}") from error

    def fetch_alerts(self, parameters):
        """An iterator over reports, and no more: TOM Toolkit's command takes nothing else.

        Raises
        ------
        requests.HTTPError
            Where Kafka does not answer: what TOM Toolkit shows to its user.
        """
        place = self.place
        try:
            return iter(find_reports(parameters, place))
        except DglError as error:
            raise HTTPError(str(error)) from error

    def fetch_alert(self, alert_id):
        """A report by its message id, or None."""
        return next((r for r in self.fetch_alerts({}) if r["message_id"] == alert_id), None)

    def to_generic_alert(self, alert):
        """A report as TOM Toolkit lists it; its id is the report's message id."""
        return GenericAlert(
            timestamp=utc_of(alert["mjd_tai"]),
            id=alert["message_id"],
            name=alert["object_id"],
            ra=alert["ra"],
            dec=alert["dec"],
            mag=alert["magnitude"],
            score=alert["log_odds"],
            url=link(self.place.get("page", ""), alert),
        )

    def to_target(self, alert):
        """A report's object as a saved target."""
        target, extras, aliases = self.to_generic_alert(alert).to_target()
        target.full_clean()
        target.save(extras=extras, names=aliases)
        return target

    def process_reduced_data(self, target, alert=None):
        """Keep the scores of the object's alerts with the target; without `alert`, of the newest report of its name."""
        report = alert or next(self.fetch_alerts({"object_id": target.name}), None)
        if report is None:
            return
        try:
            records = scores_of(report, self.place)
        except DglError:
            records = [report]  # the service is away: what the report says is kept, the rest at the next time
        save_scores(target, records, self.place.get("page", ""))
