"""The templates of plans: those of the file, and those that come with coord."""

from __future__ import annotations

from pathlib import Path

import yaml

from coordination.errors import NotFound
from coordination.models import Ecosystem, Template
from coordination.text import did_you_mean

SHIPPED = Path(__file__).with_name("templates.yaml")


def templates_of(ecosystem: Ecosystem) -> tuple[Template, ...]:
    """Return all templates; one of the file takes the place of a shipped one of the same name."""
    own = ecosystem.coordination.templates
    names = {template.name for template in own}
    shipped = (Template.model_validate(fields) for fields in yaml.safe_load(SHIPPED.read_text()))
    return (*own, *(template for template in shipped if template.name not in names))


def find_template(ecosystem: Ecosystem, name: str) -> Template:
    """Return the template of that name. Raises NotFound."""
    found = {template.name: template for template in templates_of(ecosystem)}
    if name not in found:
        raise NotFound(
            f"there is no template {name!r}{did_you_mean(name, found)}", "list them: coord list-templates"
        )
    return found[name]
