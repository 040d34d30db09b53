"""Plans that agents propose: validated, shown with the difference that they make to the file, and written by
a person's order.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

from coordination.api.generators import Commands, new_name
from coordination.api.parameters import AllRepos, SomeRepos, WithRoles, WithTags
from coordination.api.planning import Sweep, SweepOptions
from coordination.api.run import Run
from coordination.api.runs import Runs
from coordination.declared import Effect, Option, operation
from coordination.errors import Conflict, NotFound, PlanRefused, UsageError
from coordination.models import Todo, reads_of
from coordination.planner.generated import PROPOSE, proposal_graph
from coordination.planner.proposal import MOST_BYTES, Proposal, proposal_of, proposal_schema, read_proposal
from coordination.planner.selection import Selectors
from coordination.runs.records import RunStatus, TodoSpec
from coordination.text import fenced
from coordination.tracker.brief import brief_of
from coordination.tracker.records import ProposedPlan

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

TheProposal = Annotated[
    Proposal | dict[str, Any],
    Option("A title, and todos with key, repo, task, and what else is known of them."),
]

TASK = """\
You are in {repo}; the other repositories are listed below. Change nothing: you only plan.

1. Find out which of these repositories the change affects, and read their code.
2. Plan nothing twice: see the open plans.
3. Split the work into todos. An agent executes each in one repository, in one session, and sees nothing but
   its text: give it all that it needs in task and description, and acceptance criteria in words. Providers
   come before their consumers: name them in blocked_by, and in reads where an agent must see their code.
4. Write the plan as one JSON object to COORD_OUTPUT. It must match this JSON Schema; anything else, such as a
   command, is refused, and so are more than {most:,} bytes:

{schema}
"""
"""The task of the agent that plans."""


class Proposals:
    """`coord.proposals`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def brief(self, change: str, repos: Collection[str] = ()) -> str:
        """Return the facts that somebody needs to plan a change of these repositories (default: all).

        Raises NotFound.
        """
        manager = self._access.manager
        chosen = [manager.get_repo(name) for name in repos] or manager.ecosystem.repos
        return brief_of(manager.ecosystem, change, chosen)

    @operation(
        "plan.request_proposal", Effect.EXECUTES, right="execute", event="execute", command=False, tool=False
    )
    def request(
        self,
        sentence: Annotated[str, Option("The change, in a person's words.")],
        *,
        repos: SomeRepos = (),
        tags: WithTags = (),
        roles: WithRoles = (),
        all_repos: AllRepos = False,
        agent: Annotated[str | None, Option("The agent (default: that of the settings).")] = None,
        after: Annotated[str, Option("The run whose proposal was refused, to correct it.")] = "",
    ) -> Run:
        """Let an agent propose a plan. It works in the first of the selected repositories (default: all),
        reads the others, and can change nothing. Nothing is written into the file.

        `after`: an earlier run, whose proposal was refused: the agent is told why, and corrects it. `of_run`
        returns the proposal when the run has ended.

        Raises UsageError; NotFound where no repository matches; PlanRefused without an agent; Unreachable
        where a repository has no worker.
        """
        wanted = Selectors(repos=repos, tags=tags, roles=roles)
        commands = Commands(self._access)
        prepared = self.prepare(sentence, wanted, all_repos=all_repos, agent=agent, after=after)
        return commands.start(commands.make_ready(prepared))

    def prepare(
        self,
        sentence: str,
        wanted: Selectors,
        *,
        all_repos: bool = False,
        agent: str | None = None,
        after: str = "",
    ) -> Sweep:
        """Return the run that `request` would start."""
        from coordination.runs.submission.order import refuse_impossible

        if not sentence.strip():
            raise UsageError("the sentence is empty", 'say what is to change: --from "log lines get a zone"')
        ecosystem = self._access.manager.document.ecosystem
        chosen = wanted.select_repos(ecosystem, everywhere=_everywhere(wanted, all_repos))
        parts = (brief_of(ecosystem, sentence, chosen), self._task(chosen[0].name), self._corrected(after))
        prompt = "\n".join(filter(None, parts))
        records, graph = proposal_graph(ecosystem, chosen, sentence, prompt, new_name(), agent)
        refuse_impossible(graph, None, self._access.settings)
        options = SweepOptions()
        return Sweep(graph=graph, options=options, operation="execute", no_change_set=True, records=records)

    def of_run(self, run: str) -> tuple[Proposal, tuple[str, ...]]:
        """Return the proposal of an ended run, and the repositories that it may name.

        Raises NotFound for a run that proposed nothing; UsageError for a proposal that is refused; NotTrusted
        for one that no trusted worker has signed, where this machine requires signatures.
        """
        name, todo, output = self._ended(run)
        if not output:
            why = "the agent has written no proposal to COORD_OUTPUT"
            raise UsageError(why, f"see its log: coord logs {name}")
        return read_proposal(output), (todo.repo, *reads_of(todo))

    def why_refused(self, run: str) -> str:
        """Return why the proposal of an ended run is refused; empty if it can be applied. Raises NotFound."""
        try:
            proposal, repos = self.of_run(run)
            self.preview(proposal, repos=repos)
        except (UsageError, PlanRefused, Conflict) as refused:
            return refused.message
        return ""

    def _ended(self, run: str) -> tuple[str, Todo, str]:
        """Return the id of the run in which an agent proposed a plan, its todo, and its output."""
        view = Runs(self._access).get(run).view()
        if not view.plan_id.startswith(f"{PROPOSE}:") or view.status is not RunStatus.SUCCEEDED:
            raise NotFound(
                f"run {view.run_id} of {view.plan_id} is {view.status}, and has no proposal",
                'let an agent make one: coord plan create --from "…"',
            )
        name = view.todos[0].id
        with self._access.reached() as connection:
            spec, output = connection.reader.spec_and_output(view.run_id, name)
            if self._access.authority.required:
                from coordination.runs.signed.results import check_output_of

                signed = connection.signed_run(view.run_id, connection.trust_with_worker(self._access.state))
                check_output_of(signed, name, output)
                return view.run_id, signed.signed_spec(name, spec).todo, output
        return view.run_id, TodoSpec.model_validate_json(spec).todo, output

    def _task(self, repo: str) -> str:
        most = min(MOST_BYTES, self._access.settings.output_limit_bytes)
        return TASK.format(repo=repo, most=most, schema=json.dumps(proposal_schema()))

    def _corrected(self, run: str) -> str:
        """Return the part of a prompt about the refused proposal of a run; empty without one."""
        if not run or not (why := self.why_refused(run)):
            return ""
        *_, output = self._ended(run)
        return f"This proposal was refused:\n{fenced(output)}\nCorrect it:\n{fenced(why)}\n"

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
        warnings = (*made.warnings, *self._without_agent(made))
        return made.model_copy(update={"warnings": warnings, "cost": self._ceiling()})

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
        everywhere = _everywhere(wanted, all_repos)
        return self._access.manager.create_proposed(checked, wanted, all_repos=everywhere, write=write)

    def _ceiling(self) -> str:
        """Return the limit of the cost of a new plan, in words: it has no budget of its own."""
        budget = self._access.settings.agent_budget
        usd = None if budget.usd_per_day is None else f"{budget.usd_per_day:,.2f} USD"
        tokens = None if budget.tokens_per_day is None else f"{budget.tokens_per_day:,} tokens"
        if limits := " and ".join(filter(None, (usd, tokens))):
            return f"at most {limits} a day, with all other agents (agent_budget)"
        return "without a limit: set agent_budget, or a budget of the plan"

    def _without_agent(self, made: ProposedPlan) -> tuple[str, ...]:
        """Return why no agent could execute the todos."""
        from coordination.runs.submission.agents import refuse_unfit_agents

        try:
            refuse_unfit_agents(made.todos, self._access.settings, made.plan)
        except PlanRefused as refused:
            return (f"{refused.message}; {refused.hint}",)
        return ()


def _everywhere(wanted: Selectors, all_repos: bool) -> bool:
    """Return whether all repositories are selected, which is the default."""
    return all_repos or not (wanted.repos or wanted.tags or wanted.roles)
