"""Exports: a saga's machine in the formats of other tools. It is made from the same table that drives executions."""

from __future__ import annotations

from fsm_mediator.exports.asl import to_asl
from fsm_mediator.exports.bpmn import to_bpmn
from fsm_mediator.exports.scxml import to_scxml
from fsm_mediator.exports.table import to_table
from fsm_mediator.exports.tla import TlaModule, to_tla

__all__ = ["TlaModule", "to_asl", "to_bpmn", "to_scxml", "to_table", "to_tla"]
