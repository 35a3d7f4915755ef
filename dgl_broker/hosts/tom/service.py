"""The module for `tom_dataservices`, with the application `dgl_broker.hosts.tom` in INSTALLED_APPS."""

from tom_dataservices.dataservices import DataService, QueryServiceError
from tom_dataservices.forms import BaseQueryForm
from tom_targets.models import Target

from dgl_broker.errors import DglError
from dgl_broker.hosts.tom.asked import DATA_TYPE, NAME, ReportFields, find_reports, save_scores, scores_of


class DeepGraviLensQueryForm(ReportFields, BaseQueryForm):
    """A question for reports."""


class DeepGraviLensDataService(DataService):
    """Reports of lensed-supernova candidates; settings in DATA_SERVICES["DeepGraviLens"]."""

    name = NAME
    verbose_name = "DeepGraviLens: candidates of lensed supernovae"
    service_notes = "Objects that `dgl-broker report` has reported; the score is a log likelihood ratio, rank by it."

    @classmethod
    def get_form_class(cls):
        """The form of a question."""
        return DeepGraviLensQueryForm

    def build_query_parameters(self, parameters, **kwargs):
        """The form's values that are a question."""
        self.query_parameters = {name: parameters.get(name) for name in ReportFields.base_fields}
        return self.query_parameters

    def build_query_parameters_from_target(self, target, **kwargs):
        """The question for what was reported of a target, by its name."""
        return self.build_query_parameters({"object_id": target.name})

    def query_service(self, query_parameters, **kwargs):
        """Reports, the newest first.

        Raises
        ------
        QueryServiceError
            Where Kafka does not answer: what TOM Toolkit shows to its user.
        """
        try:
            self.query_results = find_reports(query_parameters, self.configuration())
        except DglError as error:
            raise QueryServiceError(str(error)) from error
        return self.query_results

    def query_targets(self, query_parameters, **kwargs):
        """Reports as targets to choose from."""
        return [
            {
                "name": one["object_id"],
                "ra": one["ra"],
                "dec": one["dec"],
                "survey": one["survey"],
                "state": one["state"],
                "log_odds": one["log_odds"],
                "reduced_datums": {DATA_TYPE: [one]},
            }
            for one in self.query_service(query_parameters)
        ]

    def query_reduced_data(self, target, **kwargs):
        """Scores of all alerts of a target's object, the report's alone where the service cannot be asked."""
        found = self.query_service(self.build_query_parameters_from_target(target))
        if not found:
            return {DATA_TYPE: []}
        try:
            return {DATA_TYPE: scores_of(found[0], self.configuration())}
        except DglError as error:
            raise QueryServiceError(str(error)) from error

    def create_target_from_query(self, target_result, **kwargs):
        """An object as a target, not saved yet."""
        return Target(
            name=target_result["name"],
            type=Target.SIDEREAL,
            ra=target_result["ra"],
            dec=target_result["dec"],
        )

    def create_reduced_datums_from_query(self, target, data, data_type=None, **kwargs):
        """Scores kept with the target."""
        return save_scores(target, data, self.configuration().get("page", ""))
