"""The composer of a flow's requests, with the files and examples it draws on."""

from poeflow.engine.attached import Files
from poeflow.engine.context import Means
from poeflow.engine.examples import Examples
from poeflow.engine.request import Composer
from poeflow.engine.schemas import Schemas
from poeflow.planning.plan import Plan


def composer_of(plan: Plan, schemas: Schemas, means: Means) -> Composer:
    files = Files(plan.texts, means.project, means.outputs, forbidden=means.keys)
    examples = Examples(means.project, plan.file, plan.texts)
    return Composer(plan, schemas, files, examples, means.declared)
