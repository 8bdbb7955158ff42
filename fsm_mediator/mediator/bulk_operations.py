"""BulkOperations: the method that gives one verb to many executions, for both kinds of mediators."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fsm_mediator.errors import JournalError, MediatorError
from fsm_mediator.mediator import requests
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.threads import run_blocking

if TYPE_CHECKING:
    from fsm_mediator.mediator.bulk import Batch, BulkResult
    from fsm_mediator.mediator.bulk_claims import BatchClaim


class BulkOperations:
    """The method of `Mediator` that gives a verb to many executions."""

    _core: ExecutionDriver

    def bulk(
        self,
        verb: str = "",
        *,
        batch: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        state: str | Collection[str] | None = None,
        saga: str | None = None,
        version: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        error: str | None = None,
        step: str | None = None,
        since: float | None = None,
        until: float | None = None,
        parent: str | None = None,
        text: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
    ) -> Iterator[BulkResult]:
        """Give one verb to all matching executions, one after another, and yield a result for each.

        The ids of the executions are stored in the journal before the first verb. After an interruption, *batch*
        continues with the executions that have no result. The note of each result has the batch's name, and
        `fsm-mediator bulk` prints the name.

        Args:
            verb: ``retry``, ``resolve``, ``cancel``, ``undo``, ``signal``, ``again``, ``hold``, ``unhold``,
                ``acknowledge`` or ``prune``, which deletes ended executions, each with its branches.
            batch: The name of an interrupted batch to continue. All other arguments are then ignored.
            arguments: Further arguments of the verb: ``{"done": True, "result": 7}`` for ``resolve``,
                ``{"name": "approve", "value": True}`` for ``signal``. The arguments are journaled as JSON.
            state: Only executions in this state or phase, or in one of several: ``stuck.charge``, ``stuck``.
            saga: Only executions of the saga with this name.
            version: Only executions of this version.
            attributes: Only executions with all these attributes: ``{"tenant": "acme"}``.
            error: Only executions that failed, are stuck or are retried with an error of this type: its full name, or
                the last part of it.
            step: Only executions that are at the step with this path, or failed there.
            since: Only executions that entered their state at this time or later, in seconds since the epoch.
            until: Only executions that entered their state before this time.
            parent: Only the branches of this execution.
            text: Only executions with this text in their id.
            reason: The reason. It is journaled for each execution.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            DefinitionError: The verb cannot be given to many executions, does not take the arguments, or the filter can
                match nothing.
            PayloadError: The arguments cannot be encoded as JSON.
            RefusedError: There is no such batch, or another living mediator executes it.
        """
        from fsm_mediator.mediator.bulk import batch_for  # loaded when it is used
        from fsm_mediator.mediator.bulk_claims import claim_batch  # loaded when it is used

        core = self._core
        asked = {
            "state": state,
            "saga": saga,
            "version": version,
            "attributes": attributes,
            "error": error,
            "step": step,
            "since": since,
            "until": until,
            "parent": parent,
            "text": text,
        }
        begin = functools.partial(batch_for, core, verb, batch, arguments, reason, actor, **asked)
        found = run_blocking(requests.ask, core, begin)
        if not run_blocking(requests.ask, core, found.left):
            return
        claim = run_blocking(requests.ask, core, claim_batch, core, found)
        try:
            yield from self._carry_out(found, claim)
        finally:
            run_blocking(core.runtime.in_thread, claim.release)

    def _carry_out(self, found: Batch, claim: BatchClaim) -> Iterator[BulkResult]:
        from fsm_mediator.mediator.bulk import PRUNE, BulkResult, result_of  # loaded when it is used

        core = self._core
        for saga_id in run_blocking(requests.ask, core, found.left):
            run_blocking(requests.ask, core, claim.check)
            try:
                if found.verb == PRUNE:
                    from fsm_mediator.mediator.bulk_pruning import prune_one  # loaded when it is used

                    result = run_blocking(requests.ask, core, prune_one, core.journal, saga_id, found.at)
                else:
                    result = result_of(saga_id, getattr(self, found.verb)(saga_id, **found.words()))
            except JournalError:
                raise
            except MediatorError as error_of_one:
                result = BulkResult(saga_id, done=False, message=str(error_of_one))
            run_blocking(requests.ask, core, found.keep, result, core.clock())
            yield result


class AsyncBulkOperations:
    """The method of `AsyncMediator` that gives a verb to many executions."""

    _core: ExecutionDriver

    async def bulk(
        self,
        verb: str = "",
        *,
        batch: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        state: str | Collection[str] | None = None,
        saga: str | None = None,
        version: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        error: str | None = None,
        step: str | None = None,
        since: float | None = None,
        until: float | None = None,
        parent: str | None = None,
        text: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
    ) -> AsyncIterator[BulkResult]:
        """Give one verb to all matching executions, one after another, and yield a result for each.

        The ids of the executions are stored in the journal before the first verb. After an interruption, *batch*
        continues with the executions that have no result. The note of each result has the batch's name, and
        `fsm-mediator bulk` prints the name.

        Args:
            verb: ``retry``, ``resolve``, ``cancel``, ``undo``, ``signal``, ``again``, ``hold``, ``unhold``,
                ``acknowledge`` or ``prune``, which deletes ended executions, each with its branches.
            batch: The name of an interrupted batch to continue. All other arguments are then ignored.
            arguments: Further arguments of the verb: ``{"done": True, "result": 7}`` for ``resolve``,
                ``{"name": "approve", "value": True}`` for ``signal``. The arguments are journaled as JSON.
            state: Only executions in this state or phase, or in one of several: ``stuck.charge``, ``stuck``.
            saga: Only executions of the saga with this name.
            version: Only executions of this version.
            attributes: Only executions with all these attributes: ``{"tenant": "acme"}``.
            error: Only executions that failed, are stuck or are retried with an error of this type: its full name, or
                the last part of it.
            step: Only executions that are at the step with this path, or failed there.
            since: Only executions that entered their state at this time or later, in seconds since the epoch.
            until: Only executions that entered their state before this time.
            parent: Only the branches of this execution.
            text: Only executions with this text in their id.
            reason: The reason. It is journaled for each execution.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            DefinitionError: The verb cannot be given to many executions, does not take the arguments, or the filter can
                match nothing.
            PayloadError: The arguments cannot be encoded as JSON.
            RefusedError: There is no such batch, or another living mediator executes it.
        """
        from fsm_mediator.mediator.bulk import batch_for  # loaded when it is used
        from fsm_mediator.mediator.bulk_claims import claim_batch  # loaded when it is used

        core = self._core
        asked = {
            "state": state,
            "saga": saga,
            "version": version,
            "attributes": attributes,
            "error": error,
            "step": step,
            "since": since,
            "until": until,
            "parent": parent,
            "text": text,
        }
        begin = functools.partial(batch_for, core, verb, batch, arguments, reason, actor, **asked)
        found = await requests.ask(core, begin)
        if not await requests.ask(core, found.left):
            return
        claim = await requests.ask(core, claim_batch, core, found)
        try:
            async with aclosing(self._carry_out(found, claim)) as results:
                async for result in results:
                    yield result
        finally:
            await core.runtime.in_thread(claim.release)

    async def _carry_out(self, found: Batch, claim: BatchClaim) -> AsyncGenerator[BulkResult]:
        from fsm_mediator.mediator.bulk import PRUNE, BulkResult, result_of  # loaded when it is used

        core = self._core
        for saga_id in await requests.ask(core, found.left):
            await requests.ask(core, claim.check)
            try:
                if found.verb == PRUNE:
                    from fsm_mediator.mediator.bulk_pruning import prune_one  # loaded when it is used

                    result = await requests.ask(core, prune_one, core.journal, saga_id, found.at)
                else:
                    result = result_of(saga_id, await getattr(self, found.verb)(saga_id, **found.words()))
            except JournalError:
                raise
            except MediatorError as error_of_one:
                result = BulkResult(saga_id, done=False, message=str(error_of_one))
            await requests.ask(core, found.keep, result, core.clock())
            yield result
