"""Which tests run: of the tests that take long together, a share, drawn by a seed.

``POSTGRES_SHARE=24`` runs one in 24 of the tests with the marker `postgres`; ``POSTGRES_SEED`` draws others.
``TESTS_SHARE`` is of all tests. The whole suite runs one in six of the long tests (`LONG_SHARE`, `LONG_SEED`), and
``make long`` runs them all. If files or tests are named on the command line, all their long tests run.
"""

from __future__ import annotations

import collections
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

import pytest


class Collected(Protocol):
    """What is asked of a test of pytest."""

    @property
    def nodeid(self) -> str: ...

    def get_closest_marker(self, name: str) -> Any: ...


Item = TypeVar("Item", bound=Collected)

SHARED: Final = {
    "postgres": "POSTGRES",
    "engines": "ENGINES",
    "cluster": "FLEET",
    "torture": "TORTURE",
    "browser": "BROWSER",
    "long": "LONG",
}
"""Markers of tests that take minutes together, and the first word of their two variables."""

LONG_SHARE: Final = 6
"""The whole suite runs one in so many of the long tests."""

LONG: Final = {
    "crash/test_crashes": (
        "test_answered_attempts_are_not_repeated test_killed_again_in_recovery test_killed_at_every_other_point "
        "test_killed_at_some_points_on_postgres"
    ),
    "crash/test_disk": "test_damaged_file_is_reported",
    "crash/test_fight": "test_three_processes_fight_over_one_journal",
    "crash/test_limits": "test_no_more_than_the_limit_in_four_processes_that_are_killed",
    "crash/test_stopped": "test_a_worker_that_was_stopped_beyond_its_lease_writes_nothing_more",
    "test_benchmarks": "test_ours_and_the_floors_do_the_work_that_is_timed",
    "test_big_groups": "test_process_dies_at_every_batch_and_the_first_answer_counts",
    "test_check_saga": (
        "test_careful_steps_survive_strictly test_coroutines_survive_on_the_async_mediator "
        "test_drivers_overtaken_on_purpose_are_not_heard_of test_every_pair_of_faults_on_demand "
        "test_example_survives_every_fault test_example_survives_that_its_process_is_killed "
        "test_probes_time_outs_pivots_and_deadlines_survive test_step_with_a_bug_is_caught "
        "test_steps_that_behave_survive_every_fault test_strict_raises_the_errors_that_the_user_names"
    ),
    "test_check_together": (
        "test_a_coroutine_that_is_interrupted_at_its_await_is_found "
        "test_a_race_between_the_branches_of_two_executions_is_found "
        "test_a_race_within_one_execution_is_no_interference_of_two test_a_signal_may_come_early "
        "test_a_stock_that_is_sold_twice_is_found test_an_update_that_is_lost_is_found "
        "test_right_sagas_that_wait_survive test_steps_with_a_lock_survive "
        "test_what_another_does_during_a_wait_is_found"
    ),
    "test_check_waits": "test_signals_sleeps_and_choices_survive",
    "test_contrib": (
        "test_admin_is_served_by_djangos_own_server test_admin_lists_executions_for_those_who_may_view "
        "test_manage_sagas_is_the_command_line test_system_check_reports_what_is_wrong_with_the_mediator"
    ),
    "test_package": "test_distributions_hold_what_they_should test_version_is_that_of_the_tag",
    "test_starting": "test_command_line_finds_the_sagas_of_a_new_project test_tests_of_a_new_project_pass",
    "test_cli": "test_recover_takes_up_what_a_dead_process_left test_serve_drives_until_it_is_told_to_stop",
    "test_cli_checks": (
        "test_verify_every_saga_of_an_app test_verify_needs_an_app_that_can_be_loaded "
        "test_verify_writes_counterexamples test_verify_writes_counterexamples_of_branches"
    ),
    "test_cli_errors": "test_a_full_disk_is_told test_a_reader_that_has_seen_enough_ends_it_quietly",
    "test_cli_terminals": (
        "test_a_journal_that_is_named_is_read_where_the_app_is_broken test_a_picture_goes_to_standard_output "
        "test_an_export_is_utf_8_whatever_the_encoding_of_the_terminal "
        "test_app_in_pyproject_is_enough_for_every_command_in_every_folder "
        "test_characters_that_an_encoding_lacks_are_shown_escaped "
        "test_export_of_one_execution_has_its_branches_and_no_other "
        "test_journal_of_pyproject_is_used_where_the_app_has_none "
        "test_list_in_a_pipe_has_one_line_for_each_execution "
        "test_show_in_a_pipe_has_one_line_for_each_record_and_keeps_the_payload"
    ),
    "test_cli_waits": "test_what_to_type_next_can_be_typed",
    "test_composition_table": "test_the_cell_is_true",
    "test_conformance": (
        "test_every_possible_history_conforms_and_no_other_doubt_does test_it_is_legal_exactly_where_recovery_can_fold"
    ),
    "test_copying": "test_a_copy_keeps_everything_and_goes_on test_a_copy_that_breaks_leaves_nothing",
    "test_coroutine_steps": "test_a_coroutine_that_blocks_the_event_loop_is_found",
    "test_counterexamples": (
        "test_a_counterexample_of_each_mutant_happens_on_a_real_mediator test_crash_that_is_forgotten_is_caught "
        "test_each_mutant_that_no_player_shows_has_a_reason "
        "test_every_action_of_the_verifier_happens_on_a_mediator "
        "test_wherever_the_verifier_comes_a_mediator_can_come test_written_test_runs_under_pytest"
    ),
    "test_daemon": (
        "test_a_cancel_reaches_another_process test_a_dead_process_is_noticed_at_once "
        "test_a_paused_process_is_not_robbed "
        "test_the_same_id_started_by_several_processes_at_once_is_one_execution "
        "test_verbs_are_judged_by_the_process_that_drives"
    ),
    "test_definition": (
        "test_every_class_name_makes_a_lawful_step_name test_every_name_is_either_refused_or_safe_in_a_state "
        "test_fingerprint_is_the_same_in_every_process test_groups_nested_too_deep_are_refused_in_words"
    ),
    "test_detail_view": (
        "test_every_run_can_be_read test_known_sagas_can_be_read_and_little_is_blank "
        "test_whatever_the_saga_it_can_be_read_and_little_is_blank"
    ),
    "test_diagrams": (
        "test_compensation_comes_back_on_the_right test_diagrams_import_nothing_heavy_before_something_is_drawn "
        "test_every_line_begins_and_ends_at_its_nodes "
        "test_gallery_check_fails_with_a_diff_where_a_picture_is_stale test_gallery_is_fresh "
        "test_happy_path_is_a_straight_line_that_nothing_crosses "
        "test_hostile_states_and_events_leave_no_mark_and_raise_nothing test_hostile_text_cannot_inject_dot "
        "test_hostile_text_cannot_inject_mermaid test_hostile_text_cannot_leave_its_place_in_an_svg "
        "test_hostile_text_stays_in_its_cell test_labels_in_markup_are_well_formed "
        "test_markdown_of_a_machine_is_its_table_of_transitions "
        "test_no_label_lies_on_a_node_a_line_or_another_label "
        "test_no_nodes_overlap_and_no_line_runs_through_a_node test_pictures_are_the_same_in_every_process "
        "test_without_pygraphviz_a_dot_on_the_path_draws"
    ),
    "test_docs": (
        "*test_every_page_is_built_and_listed *test_pages_show_the_saga_that_the_tutorial_writes "
        "*test_reference_tells_every_public_name test_tutorial_does_what_it_says"
    ),
    "test_docs_testing": "test_page_does_what_it_says test_table_of_bugs_is_fresh",
    "test_event_loop": "test_callers_that_go_away_leave_nothing_half_done",
    "test_execution": "TestLife test_settings_may_change_under_a_saga_that_is_under_way",
    "test_explorer": (
        "test_every_choice_leads_where_it_says_and_recovery_would_find_it test_path_of_a_counterexample_can_be_played"
    ),
    "test_exports": (
        "test_an_independent_interpreter_goes_the_same_way test_tlc_finds_a_fault_in_the_table "
        "test_tlc_finds_the_laws_kept_and_reaches_what_verify_reaches "
        "test_tlc_finds_the_laws_kept_where_a_saga_waits"
    ),
    "test_exports_of_steps": "test_process_of_any_saga_hangs_together test_states_of_step_functions_hang_together",
    "test_failed_runs_leave_nothing": "test_nor_on_an_event_loop test_nothing_is_left_to_the_garbage_collector",
    "test_family_laws": "test_trees_end_as_they_must",
    "test_group_counterexamples": (
        "test_each_counterexample_with_branches_is_reproduced_by_the_test_it_writes "
        "test_every_ending_of_any_branch_has_a_way_that_ends_so "
        "test_every_mutant_of_groups_is_played_on_every_kind_of_group "
        "test_leftovers_of_a_group_in_a_branch_are_held_to_the_law "
        "test_wherever_the_verifier_comes_with_branches_a_mediator_can_come "
        "test_written_tests_with_branches_are_in_good_style"
    ),
    "test_group_diagrams": "test_items_with_the_same_course_are_drawn_once_with_their_number",
    "test_groups": "test_a_thousand_branches",
    "test_in_apps": (
        "test_a_deployment_releases_every_execution test_an_order_from_the_web test_an_order_survives_its_server "
        "test_committed_order_without_saga_is_started_once"
    ),
    "test_interrupts": "test_a_coroutine_in_a_mediator_is_refused_without_effect",
    "test_journal_files": "test_a_process_that_lost_its_log_leaves_the_file_to_others",
    "test_journal_interrupts": "test_interrupt_at_any_point_keeps_no_thread_waiting",
    "test_journal_model": "TestPostgresRemembers",
    "test_large_groups": "test_sqlites_work_grows_with_the_branches_and_not_with_their_square",
    "test_laws": "test_both_mediators_write_the_same_records test_laws_hold_whatever_happens",
    "test_machine": (
        "test_check_judges_a_machine_with_one_move_missing_as_plain_reachability_does "
        "test_direct_machine_behaves_as_the_stock_one"
    ),
    "test_memory_journal": "test_ten_thousand_are_kept_by_default",
    "test_mutants": (
        "test_each_mutant_is_caught test_nothing_is_broken_without_a_mutant "
        "test_shortened_saga_breaks_the_rules_that_the_whole_breaks"
    ),
    "test_notebooks": "test_notebook_runs_and_shows_what_is_kept_in_it",
    "test_one_driver": "test_the_loop_in_memory_makes_the_records_of_the_driver",
    "test_order_fulfilment": (
        "test_definition_keeps_every_law test_killed_half_way_resumed_and_approved_from_other_terminals"
    ),
    "test_poison": "test_processes_that_are_killed_in_it",
    "test_process_memory": "test_a_service_is_the_world_also_where_observe_shows_only_part_of_it",
    "test_prose": "test_no_file_has_more_flagged_sentences_than_its_ceiling",
    "test_protocol_model": (
        "test_the_memory_journal_takes_every_step_of_the_model test_the_sqlite_journal_takes_every_step_of_the_model"
    ),
    "test_safe_examples": (
        "test_saga_in_django_is_safe test_sagas_of_a_page_are_safe test_sagas_of_an_example_are_safe"
    ),
    "test_silence": "test_process_that_ends_with_executions_under_way_names_them_once",
    "test_sphinx": (
        "test_book_has_one_drawn_picture_for_each_diagram test_broken_reference_is_a_warning_with_file_and_line "
        "test_changed_saga_is_drawn_anew_and_nothing_else_is test_every_option_is_taken "
        "test_mermaid_is_text_for_the_site_s_own_mermaid test_numbers_are_drawn_from_a_file "
        "test_numbers_that_cannot_be_drawn_are_a_warning test_other_builders_get_what_they_can_show "
        "test_page_shows_the_machine_and_says_it_in_words test_theme_auto_shows_the_page_s_own "
        "test_what_is_shown_can_be_chosen"
    ),
    "test_sqlite_faults": "test_forks_amid_writing_threads_lose_nothing",
    "test_sqlite_journal": "test_ten_thousand_interrupted_executions_cost_one_look_at_their_driver",
    "test_sqlite_opening": "test_unclosed_journal_is_closed_at_exit",
    "test_steps_view": (
        "test_chart_of_many_branches_is_within_what_mermaid_draws test_every_run_can_be_drawn_and_nothing_moves "
        "test_whatever_the_saga_it_can_be_read"
    ),
    "test_strategies": "test_strict_machine_finds_steps_that_lose_their_doubt",
    "test_transactions": "test_process_killed_around_its_commit_debits_once",
    "test_typing": "test_checker_accepts_uses_and_refuses_slips test_type_of_every_public_symbol_is_known",
    "test_under_load": (
        "test_two_thousand_async_runs_leave_nothing_behind test_two_thousand_runs_leave_nothing_behind"
    ),
    "test_verifier": (
        "test_a_thousand_differing_steps_are_walked_as_few_of_each_kind "
        "test_differing_steps_have_the_states_and_the_parks_of_the_whole "
        "test_law_broken_by_a_long_saga_is_shown_on_the_whole_of_it "
        "test_long_saga_is_walked_as_a_few_of_each_kind_of_step test_no_history_is_kept_in_what_was_walked "
        "test_situations_grow_with_the_steps_not_with_their_square"
    ),
    "test_verify_covers": "test_what_a_random_run_comes_to_is_walked",
    "test_verify_equal_branches": (
        "test_a_thousand_equal_branches_are_walked_as_a_few test_few_branches_break_the_rules_that_four_break "
        "test_few_branches_come_to_what_five_come_to"
    ),
    "test_verify_moves": (
        "test_failing_fast_and_settling_are_walked_as_one test_saga_with_everything_keeps_every_law "
        "*test_what_can_happen_is_a_move"
    ),
    "test_verify_planned": "test_nothing_has_to_have_begun_for_every_law_to_hold",
    "test_verify_waits": (
        "test_alike_branches_are_walked_as_one_is test_branches_one_by_one_come_to_what_all_together_come_to"
    ),
}
"""The functions and classes of tests of more than half a second, by file; those with a star are drawn together."""


def share_of(name: str) -> tuple[int, str]:
    """One test in how many runs of those with this word, and the seed."""
    return int(os.environ.get(f"{name}_SHARE") or "1"), os.environ.get(f"{name}_SEED", "")


def mark_long(items: Iterable[pytest.Item]) -> None:
    """Mark the tests of `LONG`."""
    for item in items:
        names = LONG.get(file_of(item), "").replace("*", "").split()
        if set(names) & set(item.nodeid.partition("[")[0].split("::")):
            item.add_marker("long")


def drawn(items: Iterable[Item]) -> Iterator[Item]:
    """The tests that run, in order; of each function with long tests at least one, if it has parameters."""
    items = list(items)
    least: dict[str, int] = collections.defaultdict(lambda: 1 << 32)
    for item in items:
        if not any(item.get_closest_marker(mark) for mark in SHARED if mark != "long"):  # those run at other times
            least[function_of(item)] = min(least[function_of(item)], number(item))
    for item in items:
        shared = all(is_drawn(item, mark, name, least[function_of(item)]) for mark, name in SHARED.items())
        if shared and is_in(item, *share_of("TESTS")):
            yield item


def file_of(item: Collected) -> str:
    """The file of a test, as `LONG` has it."""
    return item.nodeid.partition("::")[0].removeprefix("tests/").removesuffix(".py")


def function_of(item: Collected) -> str:
    """The function of a test, whose parameters are left out."""
    return item.nodeid.partition("[")[0]


def are_together(item: Collected) -> bool:
    """Whether a test is drawn with others of its file."""
    return f"*{function_of(item).rpartition('::')[2]}" in LONG.get(file_of(item), "").split()


def number(item: Collected) -> int:
    """The number that is drawn for a long test: the same for all that share what takes long."""
    what = file_of(item) if are_together(item) else item.nodeid
    return zlib.crc32(f"{share_of('LONG')[1]}{what}".encode())


def is_drawn(item: Collected, mark: str, name: str, least: int) -> bool:
    """Whether a test is in the share that runs of its marker; of torture, a share of what has parameters."""
    share, seed = share_of(name)
    if item.get_closest_marker(mark) is None or share == 1:
        return True
    of_many = "[" in item.nodeid
    if mark == "long":
        return number(item) % share == 0 or (of_many and not are_together(item) and number(item) == least)
    return (mark == "torture" and not of_many) or is_in(item, share, seed)


def is_in(item: Collected, share: int, seed: str) -> bool:
    """Whether a test is one of those that are drawn, one in so many."""
    return zlib.crc32(f"{seed}{item.nodeid}".encode()) % share == 0
