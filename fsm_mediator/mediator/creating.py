"""Creating: the branches of a group that is too large for one commit, batch by batch, from the plan in the journal.

The record that enters the group is written with the whole plan. From then on the driver of the parent creates the
branches: this driver, or the next one if it dies. The function that named them is not called again.
"""

from __future__ import annotations

from fsm_mediator.execution.rules import end_of_planned
from fsm_mediator.ids import branch_id
from fsm_mediator.journal.planning import Plan, Planned
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.branches import branches_status, cancel_message
from fsm_mediator.mediator.core import Core


async def create_branches(core: Core, active: ActiveExecution, planned: Planned, failed: str) -> bool:
    """Create the planned branches of the group that an execution waits in, or end them, if they are not to begin.

    Args:
        core: The mediator's.
        active: The execution.
        planned: The branches.
        failed: The name of a branch that failed, if the group cancels the others then; else empty.

    Returns:
        False: some are left to the next driver, because this one is to stop.
    """
    execution, group = active.execution, active.group
    left: Planned | None = planned
    while left is not None:
        group.planned = True
        if active.stopping:
            return False
        if active.called:
            await core.read_inbox(active)
        if active.inbox.trouble:
            active.inbox.trouble = False
            failed = (await core.runtime.in_thread(branches_status, core.store, execution)).failed
        plan, ids, left = _next_plan(core, active, left, failed)
        group.planned = left is not None
        mail = await core.write(core.commits.commit(active, (), plan=plan))
        active.receive(mail)
        for saga_id in ids:
            core.resume(saga_id)
    return True


def _next_plan(
    core: Core, active: ActiveExecution, planned: Planned, failed: str
) -> tuple[Plan, list[str], Planned | None]:
    """The plan of the next commit, the ids of the branches that begin then, and the planned branches after it.

    If some branches are dormant, the last ones are created first: so the branch that begins after another one is there
    before that one can settle.
    """
    execution, most = active.execution, core.commits.created_at_once
    part = execution.machine.places[execution.state].part
    assert part is not None
    assert most is not None
    at, (first, end, dormant, _) = core.clock(), planned
    # A dormant branch begins after another one. So once there is one, the deadline ends none of the others here.
    judged_at = at if end == len(execution.group) else 0.0
    cancel = cancel_message(execution, failed, at) if failed else None
    error = end_of_planned(execution, part, judged_at, cancel)
    if error is not None:
        return Plan(ends=error), [], None
    if dormant < end:
        first = max(first, end - most)
        left = Planned(planned.first, first, min(dormant, first), None)
    else:
        end = min(end, first + most)
        left = Planned(end, planned.end, planned.end, None)
    ids = [branch_id(execution.saga_id, part.path, name) for name in execution.group[first : min(end, dormant)]]
    return Plan(creates=(first, end)), ids, left if left.first < left.end else None
