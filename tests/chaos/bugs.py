"""Bugs of the kind that such engines have, each as a small change of ours, and the tests that must
notice it.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS = "coordination/backend/lua/run"
LOCKS = "coordination/backend/lua/lock"
INBOX = "coordination/backend/lua/inbox"

RUN = "tests/contracts/test_run_steps.py"
UNDO = "tests/contracts/test_rollback_steps.py"
GATES = "tests/contracts/test_gate_steps.py"
ATTEMPTS = "tests/contracts/test_run_attempts.py"
NEEDS = "tests/contracts/test_run_needs.py"
LARGE = "tests/contracts/test_large_runs.py"
HISTORY = "tests/contracts/test_runs_machine.py"
ROLL = "tests/integration/test_local_liveness.py"
PUSHES = "tests/integration/test_landing_pushes.py"
ORDERS = "tests/integration/test_signed_orders.py"
FORGES = "tests/contracts/test_forges.py"
SERVICES = "tests/acceptance/test_services.py"
RETRY = "tests/contracts/test_retry_steps.py"
RETRY_FROM = "tests/contracts/test_retry_from.py"
NEXT_RUN = "tests/contracts/test_next_run.py"


@dataclass(frozen=True)
class Bug:
    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


BUGS = (
    Bug(
        "settle without a look at the fence",
        f"{STEPS}/_turns.lua",
        "return call('HGET', holders, member(todo)) == fence",
        "return call('HEXISTS', holders, member(todo)) == 1",
        (RUN,),
    ),
    Bug(
        "a renewal of whatever is held",
        "coordination/backend/lua/lease/renew.lua",
        "call('HGET', holders, member) ~= fence",
        "not call('HGET', holders, member)",
        (RUN,),
    ),
    Bug(
        "a todo that runs is granted again",
        f"{STEPS}/claim.lua",
        "if at == 'running' then return reply('taken') end",
        "if at == 'running' then return granted(fact(todo, 'fence')) end",
        (RUN,),
    ),
    Bug(
        "whoever did not hear its grant is refused",
        f"{STEPS}/claim.lua",
        "if at == 'running' and fact(todo, 'request') == request_id then",
        "if false then",
        (RUN,),
    ),
    Bug(
        "a message of a former attempt is taken for the present one",
        f"{STEPS}/claim.lua",
        "if attempt ~= its_attempt then return reply('stale') end",
        "",
        (RUN, HISTORY),
    ),
    Bug(
        "fences that repeat themselves",
        f"{LOCKS}/_lock.lua",
        "fence = math.max(fence < 9007199254740991 and fence + 1 or 0, now_us)",
        "fence = math.max(fence, 7)",
        (RUN, UNDO),
    ),
    Bug(
        "a dependent starts when the first of two predecessors is done",
        f"{STEPS}/_turns.lua",
        "local free = call('HINCRBY', pending, child, -1) == 0",
        "local free = call('HINCRBY', pending, child, -1) <= 1",
        (RUN,),
    ),
    Bug(
        "non-atomic settle: the count goes down, and the dependents are left to somebody else",
        f"{STEPS}/_turns.lua",
        "state_of(child) == 'waiting' and not by_level then open_todo(child) end",
        "state_of(child) == 'waiting' and not by_level then end end",
        (RUN,),
    ),
    Bug(
        "what has succeeded lets others go while a cancel is ending them",
        f"{STEPS}/_turns.lua",
        "elseif outcome == 'succeeded' and not over then",
        "elseif outcome == 'succeeded' then",
        (LARGE,),
    ),
    Bug(
        "undoing begins while what was not begun is still being ended",
        f"{STEPS}/_saga.lua",
        "not begun and not ending then",
        "not begun then",
        (LARGE,),
    ),
    Bug(
        "dependents beyond a piece are forgotten",
        f"{STEPS}/_run_remainder.lua",
        "return leave('doomed', lines)",
        "return",
        (LARGE,),
    ),
    Bug(
        "lost wake-up: what is given back is handed to nobody",
        f"{LOCKS}/_queue.lua",
        "  announce_names('released', request)\n  offer_names(names_of(request))\n  return whole",
        "  announce_names('released', request)\n  return whole",
        (RUN, NEEDS),
    ),
    Bug(
        "a repository is not free again when its todo has settled",
        f"{STEPS}/_turns.lua",
        "  release_repo(p, todo)\n  if outcome == 'succeeded' and p.repo ~= MILESTONE_REPO then",
        "  if outcome == 'succeeded' and p.repo ~= MILESTONE_REPO then",
        (RUN,),
    ),
    Bug(
        "max_parallel is not given back",
        f"{STEPS}/_run_end.lua",
        "call('HINCRBY', meta, 'active', -1)",
        "call('HINCRBY', meta, 'active', 0)",
        (RUN, HISTORY),
    ),
    Bug(
        "a paused run goes on",
        f"{STEPS}/_run_dispatch.lua",
        "  if not goes_on(status) then return end\n",
        "",
        (RUN, HISTORY),
    ),
    Bug(
        "a lost lease counts towards nothing: poison is tried for ever",
        f"{STEPS}/lose.lua",
        "again(todo, 'lost', 0, '')",
        "again(todo, 'handed_back', 0, '')",
        (ATTEMPTS,),
    ),
    Bug(
        "a lease is taken although it was renewed",
        f"{STEPS}/lose.lua",
        "tonumber(expiry) <= (tonumber(by) or now)",
        "true",
        (RUN,),
    ),
    Bug(
        "with a dead worker's todos goes what others run",
        f"{STEPS}/lose.lua",
        "fact(todo, 'worker') == dead",
        "true",
        (ROLL,),
    ),
    Bug(
        "a retry without its timer",
        f"{STEPS}/_turns.lua",
        "    call('ZADD', timers, now + delay_ms, member(todo))\n    wait_for(todo, 'timer', 'another try')",
        "    wait_for(todo, 'timer', 'another try')",
        (ATTEMPTS,),
    ),
    Bug(
        "a message that is lost is never sent again",
        f"{STEPS}/resend.lua",
        "sends[#sends + 1] = delivery(todo)",
        "",
        (RUN, HISTORY),
    ),
    Bug(
        "a level opens before the one before it has settled",
        f"{STEPS}/advance.lua",
        "if call('HGET', opened, level) ~= '0' then return reply('early') end",
        "",
        (RUN, HISTORY),
    ),
    Bug(
        "a run that leaves its levels leaves what they held back",
        f"{STEPS}/_shape.lua",
        "  shape.open_all()\nend",
        "end",
        (RUN, HISTORY),
    ),
    Bug(
        "a run by levels that a person chose leaves them",
        f"{STEPS}/_shape.lua",
        "strategy ~= 'levels' or not auto or",
        "strategy ~= 'levels' or",
        (RUN, HISTORY),
    ),
    Bug(
        "a cancel leaves what has a timer",
        f"{STEPS}/_run_remainder.lua",
        "if at == 'running' or ENDED[at] then return end",
        "if at == 'running' or at == 'retrying' or ENDED[at] then return end",
        (LARGE,),
    ),
    Bug(
        "the intent is recorded when it is done, not before it begins",
        f"{STEPS}/claim.lua",
        "  note(todo, 'intent', fence)\n",
        "",
        (UNDO,),
    ),
    Bug(
        "undoing begins while something still runs",
        f"{STEPS}/_saga.lua",
        "if tonumber(running or 0) == 0 and not begun and",
        "if not begun and",
        (UNDO,),
    ),
    Bug(
        "undone in the order in which it was done",
        f"{STEPS}/_saga.lua",
        "if call('HINCRBY', behind, parent, -1) == 0 then",
        "if call('HINCRBY', behind, parent, -1) >= 0 then",
        (UNDO, HISTORY),
    ),
    Bug(
        "a failed compensation is hidden",
        f"{STEPS}/_run_end.lua",
        "if intents ~= '0' then return finish('rollback_failed') end",
        "",
        (UNDO,),
    ),
    Bug(
        "what stands before a failed compensation is undone all the same",
        f"{STEPS}/_saga.lua",
        "  if outcome == 'succeeded' then\n    change_set.undone(todo)\n    pass(todo, p)\n  end",
        "  pass(todo, p)",
        (UNDO,),
    ),
    Bug(
        "what the rolled back run held of its repositories is kept",
        f"{STEPS}/_run_remainder.lua",
        "  call('DEL', ready, queued, occupant, unsent, stranded)\n",
        "",
        (UNDO, LARGE, HISTORY),
    ),
    Bug(
        "a gate that nobody asks",
        f"{STEPS}/_run_dispatch.lua",
        "  if gate and not approved then\n",
        "  if false then\n",
        (GATES,),
    ),
    Bug(
        "what an attempt wrote after it had lost its lease is handed on",
        f"{STEPS}/checkpoint.lua",
        "if not held_by(todo, fence) then return reply('stale') end",
        "",
        (ATTEMPTS,),
    ),
    Bug(
        "a lock for everybody who asks",
        f"{LOCKS}/_lock.lua",
        "  if want.mode == 'x' then return #shares == 0 and call('EXISTS', head .. want.name) == 0 end",
        "  if want.mode == 'x' then return true end",
        ("tests/contracts/test_locks_held.py", "tests/contracts/test_locks_queue.py"),
    ),
    Bug(
        "a lock is renewed at 0.9 of its ttl",
        "coordination/locks/core.py",
        "PART_OF_TTL = 3\n",
        "PART_OF_TTL = 1 / 0.9\n",
        ("tests/unit/locks/test_lock_renewal_times.py",),
    ),
    Bug(
        "leases are renewed at 0.9 of their ttl",
        "workers/leases.py",
        "config.settings.lease_ttl / 3)",
        "config.settings.lease_ttl * 0.9)",
        ("tests/unit/workers/test_worker_process.py",),
    ),
    Bug(
        "a message is acknowledged before it is handled",
        f"{INBOX}/take.lua",
        "if fields[7] == 'forget' then",
        "if true then",
        ("tests/contracts/test_messages_inbox.py", "tests/contracts/test_messages_delivery.py"),
    ),
    Bug(
        "Celery acknowledges a message before its todo is claimed",
        "coordination/broker/celery_app.py",
        "task_acks_late=True",
        "task_acks_late=False",
        (
            "tests/chaos/test_killed_processes.py::test_promise_2_a_killed_workers_todo_begins_after_its_children",
        ),
    ),
    Bug(
        "leases are reaped the moment Redis is back",
        "coordination/runs/maintenance/lease_trust.py",
        "self._trusted_from_s = time.monotonic() + self._lease_s\n",
        "self._trusted_from_s = time.monotonic()\n",
        ("tests/integration/test_maintenance.py", "tests/unit/runs"),
    ),
    Bug(
        "an attempt begins with what the last one left in the worktree",
        "workers/workspace/git_worktree.py",
        'self.git("clean", "-ffdq")',
        "pass",
        ("tests/integration/test_worktree.py",),
    ),
    Bug(
        "two attempts in one worktree",
        "coordination/files.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/integration/test_workspace.py",),
    ),
    Bug(
        "published whatever stands there by now",
        "workers/transfer/routes.py",
        "*PUSH, lease,",
        '*PUSH, "--force",',
        ("tests/integration/test_publishing.py",),
    ),
    Bug(
        "a landing overwrites what somebody has pushed meanwhile",
        "workers/landing/remote.py",
        '("push", *PUSH, lease, "--", at.url, f"{commit}:{at.ref}")',
        '("push", *PUSH, "--", at.url, f"+{commit}:{at.ref}")',
        (f"{PUSHES}::test_a_base_that_moved_is_named_and_stays",),
    ),
    Bug(
        "a repository lands before those that its changes build on",
        "coordination/landing/graph.py",
        "blocked_by=(after, *(todo.id for todo in checks), *before, *one.after_todos),",
        "blocked_by=(after, *(todo.id for todo in checks), *one.after_todos),",
        ("tests/unit/landing/test_landing_rules.py",),
    ),
    Bug(
        "an author approves the own pull request",
        "coordination/landing/readiness.py",
        "        and review.author != seen.request.author\n",
        "",
        ("tests/unit/landing/test_request_readiness.py",),
    ),
    Bug(
        "a way takes what another way supports",
        "coordination/landing/ways.py",
        "without = sorted(way.value for way in ways if feature not in WAYS[way].supports)",
        "without = list[str]()",
        ("tests/acceptance/test_ways_of_landing.py",),
    ),
    Bug(
        "a block of an order is not compared with what was signed",
        "coordination/trust/orders.py",
        "len(block) > LARGEST_BLOCK or digest(block) != self.blocks[index][1]:",
        "len(block) > LARGEST_BLOCK:",
        (f"{ORDERS}::test_what_was_changed_in_redis_is_refused_and_reported",),
    ),
    Bug(
        "the order of one run counts for another",
        "coordination/trust/orders.py",
        "    if signed.run not in runs:\n",
        "    if not signed.run:\n",
        (f"{ORDERS}::test_a_copy_of_a_run_under_another_id_is_refused",),
    ),
    Bug(
        "an order counts on every server",
        "coordination/trust/orders.py",
        "if signed.server not in (self.server, also or self.server):",
        "if not signed.server:",
        (f"{ORDERS}::test_an_order_of_another_server_is_refused",),
    ),
    Bug(
        "GitHub merges a request at whatever head it has",
        "coordination/forges/github.py",
        'body = {"sha": full_commit(expected_head), "merge_method": method.value}',
        'body = {"merge_method": method.value}',
        (f"{FORGES}::test_a_merge_with_another_head_than_expected_changes_nothing",),
    ),
    Bug(
        "a write is repeated after trouble of the forge",
        "coordination/forges/http.py",
        'case ForgeProblem.SERVER if method == "GET":',
        "case ForgeProblem.SERVER:",
        (f"{FORGES}::test_reads_are_repeated_after_trouble_of_the_forge_and_writes_are_not",),
    ),
    Bug(
        "the pages behind the first one are forgotten when a list has not changed",
        "coordination/forges/http.py",
        "headers=received, next_page=kept.next_page, size=kept.size",
        'headers=received, next_page="", size=kept.size',
        (f"{FORGES}::test_lists_of_several_pages_are_whole",),
    ),
    Bug(
        "a service starts before those that it depends on",
        "coordination/services/graph.py",
        "        for one in edges[name]:\n            place[one] = min(place[one], place[name])\n",
        "",
        (f"{SERVICES}::test_all_start_once_in_order_and_stop",),
    ),
    Bug(
        "a new order of a service does not replace the old one",
        "coordination/services/supervisor.py",
        "if name not in desired or desired[name].order != runner.desired.order:",
        "if name not in desired:",
        ("tests/integration/test_services_on_a_host.py",),
    ),
    Bug(
        "a retry begins at work that is done again",
        "coordination/runs/retrying/retry_run.py",
        "        tips=retry.tips,\n",
        "        tips=retry.ended.tips,\n",
        (RETRY_FROM, RETRY),
    ),
    Bug(
        "a rollback of a retry leaves what the run before it has begun",
        "coordination/runs/retrying/retry_run.py",
        "        facts={todo: _begun(old, todo) for todo in retry.again},\n",
        "",
        (UNDO, RETRY),
    ),
    Bug(
        "a sweep begins without the results of its change set",
        "coordination/runs/submission/submit.py",
        "        beginning=replace(beginning, todos=todos, hosts={**beginning.hosts, **hosts}, meta=meta),\n",
        "        beginning=replace(AT_BASE, todos=todos, hosts=hosts),\n",
        (NEXT_RUN,),
    ),
)
