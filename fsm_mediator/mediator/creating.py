"""Creating: creates the branches of a group that is too large for one commit, in batches, from a plan in the journal.

The commit with the record that enters the group writes the whole plan. After that, the driver of the parent creates the
branches. If the driver dies, the next driver continues. The function that named the branches is not called again.
"""

from __future__ import annotations

from fsm_mediator.execution.rules import end_of_planned
from fsm_mediator.ids import branch_id
from fsm_mediator.journal.planning import Plan, Planned
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.branches import branches_status, cancel_message
from fsm_mediator.mediator.core import Core


async def create_branches(core: Core, active: ActiveExecution, planned: Planned, failed: str) -> bool:
    """Create the planned branches of the group that an execution waits for, or end them if they must not begin.

    Args:
        core: The core of the mediator.
        active: The execution.
        planned: The planned branches.
        failed: The name of a branch that failed, if the group then cancels the others. Otherwise empty.

    Returns:
        False if some branches are left to the next driver, because this driver must stop.
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
    """The plan of the next commit, the ids of the branches that then begin, and the branches left for later commits.

    If some branches are dormant, the last branches are created first. A dormant branch begins when an earlier branch
    settles. So the dormant branch must exist before the earlier branch.
    """
    execution, most = active.execution, core.commits.created_at_once
    part = execution.machine.places[execution.state].part
    assert part is not None
    assert most is not None
    at, first, end, dormant = core.clock(), planned.first, planned.end, planned.dormant
    # A dormant branch begins after another branch. So as soon as one branch is created, this function no longer ends
    # the others at the deadline.
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
