"""Plans that agents propose: validated, shown with the difference that they make to the file, and written by
a person's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from coordination.api.parameters import AllRepos, SomeRepos, WithRoles, WithTags
from coordination.declared import Effect, Option, operation
from coordination.errors import PlanRefused
from coordination.planner.proposal import Proposal, proposal_of, read_proposal
from coordination.planner.selection import Selectors
from coordination.tracker.records import ProposedPlan

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

TheProposal = Annotated[
    Proposal | dict[str, Any],
    Option("A title, and todos with key, repo, task, and what else is known of them."),
]


class Proposals:
    """`coord.proposals`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def read(self, text: str) -> Proposal:
        """Return the proposal of a JSON text. Raises UsageError for one that is refused."""
        return read_proposal(text)

    @operation("plan.preview_proposal", Effect.READS, command=False, tool=False)
    def preview(
        self,
        proposal: TheProposal,
        *,
        repos: SomeRepos = (),
        tags: WithTags = (),
        roles: WithRoles = (),
        all_repos: AllRepos = False,
    ) -> ProposedPlan:
        """Validate a plan that an agent proposes. The answer has its todos, warnings, and the difference that
        it would make to the file; nothing is written.

        The proposal may name the selected repositories (default: all).

        Raises as `apply` does.
        """
        wanted = Selectors(repos=repos, tags=tags, roles=roles)
        made = self._create(proposal, wanted, all_repos=all_repos, write=False)
        return made.model_copy(update={"warnings": (*made.warnings, *self._without_agent(made))})

    @operation("plan.apply_proposal", Effect.ADDS, right="edit", command=False, tool=False)
    def apply(
        self,
        proposal: TheProposal,
        *,
        repos: SomeRepos = (),
        tags: WithTags = (),
        roles: WithRoles = (),
        all_repos: AllRepos = False,
    ) -> ProposedPlan:
        """Create the plan that an agent proposes, as a draft, and its todos.

        The proposal may name the selected repositories (default: all).

        Raises UsageError for a proposal that has more than the schema allows; PlanRefused for one that does
        not fit the file; Conflict where an open plan has the title.
        """
        wanted = Selectors(repos=repos, tags=tags, roles=roles)
        return self._create(proposal, wanted, all_repos=all_repos, write=True)

    def _create(
        self, proposal: Proposal | dict[str, Any], wanted: Selectors, *, all_repos: bool, write: bool
    ) -> ProposedPlan:
        checked = proposal if isinstance(proposal, Proposal) else proposal_of(proposal)
        everywhere = all_repos or not (wanted.repos or wanted.tags or wanted.roles)
        return self._access.manager.create_proposed(checked, wanted, all_repos=everywhere, write=write)

    def _without_agent(self, made: ProposedPlan) -> tuple[str, ...]:
        """Return why no agent could execute the todos."""
        from coordination.runs.submission.agents import refuse_unfit_agents

        try:
            refuse_unfit_agents(made.todos, self._access.settings, made.plan)
        except PlanRefused as refused:
            return (f"{refused.message}; {refused.hint}",)
        return ()
