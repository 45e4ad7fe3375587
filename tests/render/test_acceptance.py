"""What pictures and the command line promise, row by row, each with the tests that show it."""

import ast
import os
import re
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np
import pytest

import graphnn as gnn
from drawn_graphs import chain
from graphnn import layers
from graphnn.render.text import TIMES
from pages import ROOT

TEXT = "{http://www.w3.org/2000/svg}text"
ROWS = {  # the promise, and (file below tests/, test)
    "1: an SVG without any system tool": [
        ("render/test_acceptance.py", "test_an_svg_needs_nothing_on_the_path"),
        ("render/test_layout.py", "test_the_program_dot_takes_over_and_gives_the_same_picture"),
    ],
    "2: a missing engine is one typed error with remedies, in notebooks too": [
        ("render/test_layout.py", "test_a_missing_engine_is_one_error_with_remedies"),
        ("test_notebooks.py", "test_without_graphviz_the_text_stands_alone"),
    ],
    "3: the same bytes in every process": [
        ("render/test_svg.py", "test_the_bytes_are_the_same_in_every_process"),
        ("test_determinism.py", "test_nothing_depends_on_the_hash_seed"),
    ],
    "4: nodes say what they are, and more when asked for": [
        ("render/test_acceptance.py", "test_parameters_and_operations_are_those_counted_by_hand"),
        ("render/test_svg.py", "test_each_node_says_kind_path_shape_and_parameters"),
        ("render/test_options.py", "test_further_lines_are_shown_when_asked_for"),
        ("test_profiler.py", "test_products_are_counted_by_hand"),
        ("test_node_costs.py", "test_totals_are_those_counted_by_hand"),
        ("test_node_costs.py", "test_the_picture_has_them_on_nodes_and_modules_and_in_all"),
        ("test_node_costs.py", "test_a_model_also_says_its_device_in_every_view_of_nodes"),
        ("test_node_costs.py", "test_what_is_missing_is_said"),
    ],
    "5: every connection is kept": [
        ("render/test_views.py", "test_every_connection_is_counted_when_all_is_open"),
        ("render/test_views.py", "test_adding_a_value_to_itself_is_one_edge_for_two_connections"),
        ("render/test_svg.py", "test_every_node_edge_and_group_has_a_tooltip_first"),
    ],
    "6: exact connections at any depth": [
        ("render/test_views.py", "test_edges_between_visible_boxes_are_those_of_the_graph"),
        ("render/test_views.py", "test_later_uses_name_the_owner_and_count_nothing"),
    ],
    "7: what is open by glob or predicate": [
        ("render/test_options.py", "test_globs_and_predicates_open_and_close_modules_on_top_of_depth"),
    ],
    "8: exact folding that can be undone": [
        ("render/test_fold.py", "test_twelve_equal_blocks_are_one_box_and_a_thirteenth_that_differs_is_another"),
        ("render/test_fold.py", "test_every_chain_written_out_again_is_the_graph"),
        ("render/test_fold.py", "test_what_is_not_exactly_a_chain_of_equal_nodes_is_drawn_in_full"),
    ],
    "9: shared weights are marked and counted once": [
        ("render/test_acceptance.py", "test_a_siamese_network_has_the_parameters_of_one_tower"),
        ("render/test_options.py", "test_uses_of_the_same_weights_have_one_stripe_and_one_letter"),
    ],
    "10: frozen parts, contrast, a legend of what is there": [
        ("render/test_svg.py", "test_frozen_is_shown_by_dashes_a_lock_and_a_word"),
        ("render/test_svg.py", "test_text_and_lines_stand_out"),
        ("render/test_svg.py", "test_the_legend_has_what_is_drawn_and_nothing_else"),
    ],
    "11: the backward view is what the engine computes": [
        ("render/test_backward.py", "test_the_engine_computes_where_the_view_says"),
        ("render/test_backward.py", "test_gradients_stop_at_integers_and_at_what_is_all_frozen"),
        ("render/test_backward.py", "test_a_model_marks_what_it_keeps_for_backward"),
    ],
    "12: order, lifetimes, peak": [
        ("render/test_schedule_view.py", "test_steps_are_the_forward_order"),
        ("render/test_memory_picture.py", "test_every_value_is_drawn_once_and_inside"),
        ("test_run_views.py", "test_views_of_programs_and_plans_draw_what_is_run"),
    ],
    "13: measured numbers with a scale": [
        ("render/test_overlay.py", "test_the_scale_goes_from_the_first_to_the_last_step"),
        ("render/test_overlay.py", "test_the_scale_is_in_the_legend_with_its_unit"),
        ("test_profiler.py", "test_overlays_equal_the_profile"),
        ("test_run_views.py", "test_numbers_on_the_nodes_are_those_of_the_profile_and_of_the_values"),
        ("test_run_views.py", "test_the_page_of_a_profile_has_all_its_numbers_those_that_are_asked_for_first"),
        ("render/test_explorer_overlays.py", "test_steps_of_the_scale_are_those_of_the_picture"),
    ],
    "14: values after a run, the first bad one named": [
        ("test_values.py", "test_a_bad_weight_in_layer_k_flags_layer_k"),
        ("test_values.py", "test_a_bad_gradient_is_found_in_backward_order"),
        ("test_run_views.py", "test_gradients_of_a_trainer_are_those_of_its_loss"),
        ("test_run_views.py", "test_the_first_bad_node_is_the_first_flag_of_the_page"),
        ("render/test_explorer_overlays.py", "test_a_flag_is_red_has_words_and_is_reached_from_anywhere"),
    ],
    "15: a shape error gives a picture of the graph so far": [
        ("render/test_failure.py", "test_the_picture_has_the_graph_so_far_both_shapes_and_the_failing_node"),
        ("render/test_failure.py", "test_the_error_carries_the_graph_so_far_and_its_picture_has_the_flag"),
    ],
    "16: scale": [
        ("render/test_acceptance.py", "test_two_thousand_nodes_take_seconds"),
        ("render/test_acceptance.py", "test_a_chain_of_ten_thousand_is_cut_with_a_notice"),
        ("render/test_views.py", "test_a_large_graph_stays_closed_by_itself_and_says_so"),
        ("render/test_views.py", "test_deep_nesting_stays_within_bounds"),
    ],
    "17: accessible, light and dark": [
        ("render/test_svg.py", "test_the_figure_is_accessible_and_scales"),
        ("render/test_views.py", "test_boxes_come_after_their_sources_and_lie_in_their_groups"),
        ("render/test_options.py", "test_one_theme_has_the_colours_of_that_theme_alone"),
    ],
    "18: one HTML file without a network": [
        ("render/test_html.py", "test_the_page_stands_alone"),
        ("render/test_html.py", "test_the_shell_is_small"),
        ("render/test_explorer_page.py", "test_a_click_opens_a_module_and_a_click_on_its_title_closes_it"),
        ("render/test_explorer_page.py", "test_search_lists_what_has_all_words_and_enter_jumps"),
        ("render/test_explorer_page.py", "test_the_drawing_moves_and_zooms"),
        ("render/test_explorer_page.py", "test_hostile_names_are_text"),
        (
            "render/test_explorer_overlays.py",
            "test_the_largest_number_has_the_last_colour_and_another_overlay_another_one",
        ),
        ("render/test_explorer_overlays.py", "test_closed_modules_show_what_is_inside_and_the_scale_follows"),
        ("render/test_explorer_overlays.py", "test_the_card_has_all_numbers_of_a_node_those_that_are_shown_first"),
        ("render/test_explorer_overlays.py", "test_names_for_screen_readers_have_the_numbers_and_the_flags"),
        ("render/test_explorer_overlays.py", "test_hostile_words_of_an_overlay_are_text"),
        ("cli/test_look.py", "test_a_page_has_the_numbers_of_a_run"),
    ],
    "19: notebooks, and a command with exit codes": [
        ("test_notebooks.py", "test_a_cell_shows_the_text_and_the_picture"),
        ("render/test_svg.py", "test_all_rectangles_and_texts_lie_in_the_view_box"),
        ("cli/test_look.py", "test_a_picture_in_a_file_and_on_stdout_agree"),
        ("cli/test_look.py", "test_a_picture_that_cannot_be_made"),
        ("cli/test_command.py", "test_usage_errors_exit_with_2"),
    ],
    "20: training that can be logged, broken off and taken up": [
        ("training/test_trainer.py", "test_the_log_of_a_file_has_no_control_characters"),
        ("cli/test_train.py", "test_what_a_signal_ends_goes_on_bit_for_bit"),
        ("cli/test_train.py", "test_a_training_that_is_resumed_is_the_one_that_never_stopped_bit_for_bit"),
        ("cli/test_train.py", "test_a_signal_ends_the_training_and_keeps_weights_and_history"),
        ("training/test_checkpoint.py", "test_a_break_anywhere_changes_no_bit"),
    ],
}


@pytest.mark.parametrize("row", ROWS)
def test_each_promise_has_its_tests(row):
    assert ROWS[row]
    for file, name in ROWS[row]:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
        assert len(found) == 1, f"tests/{file} has no {name}"
        marks = " ".join(ast.unparse(mark) for mark in found[0].decorator_list)
        assert "xfail" not in marks


def test_there_are_twenty():
    assert [row.partition(":")[0] for row in ROWS] == [str(number) for number in range(1, 21)]


def test_an_svg_needs_nothing_on_the_path(tmp_path):
    """No `dot`, no compiler, no home: only the packages that pip has brought."""
    program = (
        "import graphnn as gnn; x = gnn.Input(('batch', 4), name='x'); "
        "graph = gnn.Graph(x, gnn.layers.Linear(2, name='fc')(x), name='net'); "
        "[print(graph.to_svg(view)) for view in ('forward', 'backward', 'schedule')]; "
        "[print(graph.to_svg(view, sizes={'batch': 2}, device='reference')) for view in ('program', 'plan', 'memory')]"
    )
    pytest.importorskip("pygraphviz", reason="where its wheel is missing, `dot` is needed")
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**kept, "PATH": "", "PYTHONPATH": paths}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    pictures = re.findall(rb"<svg .*?</svg>", done.stdout, re.DOTALL)
    assert len(pictures) == 6
    assert all(ElementTree.fromstring(picture).get("viewBox") for picture in pictures)


def texts_of(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(TEXT)]


def test_parameters_and_operations_are_those_counted_by_hand():
    image = gnn.Input(("batch", 8, 8, 3), name="image")
    h = layers.Conv2D(16, kernel_shape=3, pad="same", name="conv")(image)
    h = layers.Linear(10, name="fc")(layers.Flatten(name="flat")(h))
    graph = gnn.Graph(image, h, name="net")
    conv, dense = 3 * 3 * 3 * 16 + 16, 8 * 8 * 16 * 10 + 10
    texts = texts_of(graph.to_svg())
    assert f"{conv:,} parameters" in texts
    assert f"{dense:,} parameters" in texts
    total = f"{conv + dense:,}"
    assert f"3 layers · {total} parameters: {total} trainable, 0 frozen" in texts
    images = np.zeros((2, 8, 8, 3))
    rows = gnn.profile(gnn.Model(graph, device="reference"), images, runs=1).rows
    # 2 for each multiplication and 1 for each bias: an image has 64 places, a filter 27 elements.
    by_hand = {"conv": 2 * 64 * 16 * (2 * 27 + 1), "flat": 0, "fc": 2 * 10 * (2 * 1024 + 1)}
    assert {row.path: row.flops for row in rows if row.phase == "forward"} == by_hand
    totals = {path: sum(row.flops for row in rows if row.path == path) for path in by_hand}
    drawn = texts_of(graph.to_svg("profile", of="flops", inputs=images, device="reference"))
    assert f"{totals['conv'] / 1e3:.3g} kFLOP" in drawn
    assert f"{totals['fc'] / 1e3:.3g} kFLOP" in drawn


def test_a_siamese_network_has_the_parameters_of_one_tower():
    x = gnn.Input(("batch", 32), name="x")
    tower = gnn.Graph(x, layers.Linear(8, name="code")(layers.Linear(16, name="hidden")(x)), name="tower")
    left, right = (gnn.Input(("batch", 32), name=name) for name in ("left", "right"))
    graph = gnn.Graph([left, right], layers.Subtract(name="distance")(tower(left), tower(right)), name="siamese")
    one = 32 * 16 + 16 + 16 * 8 + 8
    for depth in (0, 1):
        texts = texts_of(graph.to_svg(depth=depth))
        assert f"5 layers · {one:,} parameters: {one:,} trainable, 0 frozen" in texts
    assert sum(array.size for array in gnn.Model(graph).parameters.values()) == one


def test_two_thousand_nodes_take_seconds():
    graph = chain(1750, skip=7)
    start = time.perf_counter()
    svg = graph.to_svg(fold=False)
    assert time.perf_counter() - start < 9  # a third of it where nothing else runs
    assert svg.count('data-role="layer"') == len(graph.nodes) == 2000


def test_a_chain_of_ten_thousand_is_cut_with_a_notice():
    graph = chain(10_000)
    start = time.perf_counter()
    svg = graph.to_svg(fold=False)
    assert time.perf_counter() - start < 30
    assert svg.count('class="gnn-node"') < 2_300
    assert any("not drawn" in text or "left out" in text for text in texts_of(svg))
    folded = graph.to_svg()
    assert f"{TIMES}10000" in texts_of(folded)
    assert folded.count('class="gnn-node"') == 3  # an input, a layer, an output
