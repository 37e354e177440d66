"""One deployment on AWS: does a step of the table, and tells what stands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from infra.deploy import aws, chalice_stage, concurrency, functions, image, lambda_service
from infra.deploy.chalice_stage import Stage
from infra.deploy.config import Configuration
from infra.deploy.echo import Receiver
from infra.deploy.errors import DeployError
from infra.deploy.lambda_settings import FROM_OUTPUTS
from infra.deploy.policies import Place
from infra.deploy.stacks import StackRequest, Stacks
from infra.deploy.states import Outcome, Planned
from infra.deploy.steps import Kind, Step
from infra.deploy.templates import REPOSITORY, Template

Tell = Callable[[str], None]
_UNKNOWN_QUOTA = (
    "Lambda's quota is not known, and was not checked: these credentials lack "
    "lambda:GetAccountSettings."
)
_UNCHECKED = (
    "Not checked, for these credentials lack lambda:GetFunctionConcurrency:",
    "whether AWS accepts each reserved_concurrency, and what other functions have reserved.",
)
_PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}


class Deployment:
    """What is to stand (``configuration``, ``templates``) and where (``place``)."""

    def __init__(
        self, configuration: Configuration, templates: Sequence[Template], place: Place
    ) -> None:
        self.configuration = configuration
        self.templates = {each.name: each for each in templates}
        self.place = place
        self.stacks = Stacks(aws.client("cloudformation", place.region), place.region)
        self.project = functions.project_of(configuration.name)

    def run(self, step: Step, tell: Tell) -> Outcome:
        """Do a step, or find it done; raises DeployError."""
        if step.kind is Kind.FUNCTIONS:
            self.render()
            functions.deploy(self.project, self.stage(), tell)
            return Outcome.UPDATED
        if step.kind is Kind.IMAGE:
            return self._push_image(tell)
        return self.stacks.deploy(self.request(step.name), tell)

    def planned(self, step: Step) -> Planned:
        """What a stack's step would do."""
        return self.stacks.planned(self.request(step.name))

    def capacity(self) -> list[str]:
        """What is short of Lambda's concurrency, in lines; raises DeployError if AWS would refuse
        what the configuration reserves of it.
        """
        configuration, region = self.configuration, self.place.region
        quota = lambda_service.quota(region)
        if quota is None:
            return [_UNKNOWN_QUOTA]
        sizes, wanted = configuration.functions, concurrency.demands(configuration.environment)
        held: dict[str, int] | None = {}
        if quota.unreserved < quota.concurrent:
            held = lambda_service.reserved(configuration.stage, chalice_stage.functions(), region)
        if held is None:
            # All of what is reserved may be this deployment's own; a smaller quota is short anyway.
            own = quota.concurrent - quota.unreserved
            return [*_UNCHECKED, *concurrency.shortage(quota, wanted, sizes, region, own)]
        concurrency.check_reservations(quota, sizes, held)
        return concurrency.shortage(quota, wanted, sizes, region, sum(held.values()))

    def outputs(self) -> dict[str, str]:
        """Of all stacks together; their names differ."""
        found: dict[str, str] = {}
        for name in self.templates:
            found |= self.stacks.outputs(self.configuration.stack_name(name))
        return found

    def request(self, template_name: str) -> StackRequest:
        """The stack as it is to be."""
        template = self.templates[template_name]
        supplied = {"ImageUri": self.image_uri()} if "ImageUri" in template.parameters else {}
        return StackRequest(
            self.configuration.stack_name(template_name),
            template.body,
            self.configuration.parameters_of(template, **supplied),
            len(template.resources),
        )

    def stage(self) -> Stage:
        """The Lambdas' stage; raises DeployError if the stacks before it are not there."""
        outputs = self.outputs()
        private = self.parameter("PrivateApi") == "true"
        endpoints = self.configuration.api.vpc_endpoints
        needed = {*FROM_OUTPUTS.values(), *(["ApiEndpointId"] if private and not endpoints else [])}
        if missing := sorted(needed - outputs.keys()):
            raise DeployError(
                f"No stack of {self.configuration.name} has the output {', '.join(missing)}.",
                "Run up first.",
            )
        environment = {variable: outputs[name] for variable, name in FROM_OUTPUTS.items()}
        environment |= self.configuration.environment
        bus = environment.get("EVENT_BUS", "default")
        bus_arn = bus if bus.startswith("arn:") else self.place.arn("events", f"event-bus/{bus}")
        return Stage(
            self.configuration.stage,
            replace(self.place, outputs={**outputs, "EventBusArn": bus_arn}),
            environment,
            self.configuration.functions,
            endpoints or ((outputs["ApiEndpointId"],) if private else ()),
        )

    def render(self) -> None:
        """Write the Chalice project of this deployment."""
        functions.render(self.project, self.stage())

    def image_uri(self) -> str:
        """The image that the receiver runs: the one named, or the one of these sources."""
        settings = self.configuration.image
        if settings.uri:
            return settings.uri
        repository = self.outputs().get("RepositoryUri", "repository-not-there-yet")
        tag = image.content_tag(REPOSITORY, settings.build_args, self._platform())
        return f"{repository}:{tag}"

    def receiver(self, outputs: Mapping[str, str]) -> Receiver:
        """Where modalities connect to."""
        plain = self.parameter("PlainListener") == "true"
        return Receiver(
            outputs["NetworkLoadBalancerDNS"],
            outputs["DICOMAETitle"],
            int(outputs["DICOMPort"]) if plain else 0,
            int(outputs.get("DICOMTLSPort", 0)),
        )

    def parameter(self, name: str) -> str:
        """A parameter's value, or its default."""
        if name in self.configuration.parameters:
            return self.configuration.parameters[name]
        defaults = (
            each.parameters[name].default
            for each in self.templates.values()
            if name in each.parameters
        )
        return next(defaults, None) or ""

    def check_tool(self) -> None:
        """Raises DeployError now, and not after three stacks, if nothing can build the image."""
        if not self._has_image():
            image.find_tool()

    def _platform(self) -> str:
        return _PLATFORMS[self.parameter("CpuArchitecture")]

    def _has_image(self) -> bool:
        if self.configuration.image.uri:
            return True
        known = "RepositoryUri" in self.outputs()
        return known and image.is_pushed(aws.client("ecr", self.place.region), self.image_uri())

    def _push_image(self, tell: Tell) -> Outcome:
        if self._has_image():
            return Outcome.UNCHANGED
        settings = self.configuration.image
        build = image.Build(
            image.find_tool(),
            self.image_uri(),
            self._platform(),
            settings.build_args,
            settings.pip_conf,
        )
        image.push(aws.client("ecr", self.place.region), build, tell)
        return Outcome.CREATED
