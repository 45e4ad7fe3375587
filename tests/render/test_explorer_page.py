"""The page in a real browser: what a reader sees, clicks and types."""

import json
from dataclasses import dataclass

import networkx
import pytest

import drawn_graphs
from browser import rgb, selector
from graphnn import layers
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, Layer
from graphnn.graph.summary import walk
from graphnn.render.palette import BASE

pytestmark = pytest.mark.browser

PATHS = "[...document.querySelectorAll('#world .node')].map(made => made.dataset.path)"
OPEN = "[...document.querySelectorAll('#world .node[aria-expanded=true]')].map(made => made.dataset.path)"
CARD = "[document.querySelector('#card h2').textContent, document.querySelector('#card .path').textContent]"
CAMERA = "document.querySelector('#world').getAttribute('transform')"
FOCUSED = "document.activeElement.dataset?.path ?? document.activeElement.id"


def test_a_click_opens_a_module_and_a_click_on_its_title_closes_it(show):
    page = show(drawn_graphs.nested(), depth=0)
    closed = ["x", "late", "stack", "double", "hand_on", "last", "output:out", "output:gate"]
    assert page.run(PATHS) == closed
    page.click(selector("stack"))
    assert page.run(OPEN) == ["stack"]
    assert page.run(CARD) == ["Stack", "stack"]
    assert {path for path in page.run(PATHS) if path.count("/") == 1} == {
        "stack/x", "stack/blocks_0", "stack/blocks_1", "stack/blocks_0_2", "stack/output:0"
    }  # fmt: skip
    page.click(selector("stack"))
    assert page.run(PATHS) == closed


def test_boxes_stand_in_forward_order_and_have_names_for_screen_readers(show):
    graph = drawn_graphs.nested()
    page = show(graph, depth=9)
    paths = page.run(PATHS)
    leaves = [leaf.path for leaf in flatten(graph).leaves]
    assert [path for path in paths if path in leaves] == leaves
    assert all(
        paths.index(path) < paths.index(inner) for path in paths for inner in paths if inner.startswith(f"{path}/")
    )
    labels = page.run("[...document.querySelectorAll('#world [role=button]')].map(made => made.ariaLabel)")
    assert len(labels) == len(paths)
    assert all(path in label for path, label in zip(paths, labels, strict=True))
    assert "Linear stack/blocks_0/linear, (batch, 4) float32, 20 parameters, step 1 forward" in labels
    parents = "[...document.querySelectorAll('#world .node')].map(made => made.parentElement.getAttribute('role'))"
    assert set(page.run(parents)) == {"listitem"}


def test_search_lists_what_has_all_words_and_enter_jumps(show):
    graph = drawn_graphs.nested()
    page = show(graph, depth=0)
    page.press("/")
    assert page.run(FOCUSED) == "search"
    page.type("linear blocks_0")
    listed = "[...document.querySelectorAll('#results li b')].map(made => made.textContent)"
    assert page.run(listed) == ["stack/blocks_0/linear", "stack/blocks_0_2/linear"]
    page.press("ArrowDown", "Enter")
    assert page.run(FOCUSED) == "stack/blocks_0_2/linear"
    assert page.run(CARD) == ["Linear", "stack/blocks_0_2/linear"]
    assert page.run(OPEN) == ["stack", "stack/blocks_0_2"]
    x, y = page.middle(selector("stack/blocks_0_2/linear"))
    assert 0 < x < 1030
    assert 40 < y < 900
    page.press("/")
    page.type("multiply")  # the kind; what was typed before is selected and goes
    assert page.run(listed) == [path for path, _, node in walk(graph) if node.layer.kind == "Multiply"]
    page.press("Escape")
    assert page.run("document.querySelector('#results').hidden")


@pytest.mark.parametrize("make", [drawn_graphs.nested, *(lambda s=s: drawn_graphs.random_graph(s) for s in (2, 5, 7))])
def test_a_trace_marks_all_ancestors_and_descendants(show, make):
    graph = make()
    flat, ways = flatten(graph), networkx.DiGraph()
    ways.add_nodes_from(leaf.path for leaf in flat.leaves)
    for leaf in flat.leaves:
        ways.add_edges_from((source.name, leaf.path) for source in leaf.inputs if hasattr(source, "name"))
    page = show(graph, depth=9)
    page.click("#open")
    page.run("setTrace('before', true), setTrace('after', true)")
    marked = "[...document.querySelectorAll('#world .node')].map(made => [made.dataset.path, made.dataset.trace])"
    for leaf in flat.leaves:
        page.run(f"select(nodes.findIndex(node => node.path === {json.dumps(leaf.path)}))")
        traces = [(path, trace) for path, trace in page.run(marked) if path in ways]
        assert {path for path, trace in traces if "own" in trace} == {leaf.path}
        assert {path for path, trace in traces if "before" in trace} == networkx.ancestors(ways, leaf.path)
        assert {path for path, trace in traces if "after" in trace} == networkx.descendants(ways, leaf.path)


def test_a_trace_is_switched_with_keys_and_boxes(show):
    x = Input(drawn_graphs.SHAPE, name="x")
    page = show(Graph(x, drawn_graphs.Block(name="block")(x)["sum"], name="net"), depth=1)
    page.click(selector("block/tanh"))
    traced = "[...document.querySelectorAll('#world .node[data-trace=before]')].map(made => made.dataset.path)"
    assert page.run(traced) == []
    page.press("i")
    assert page.run(traced) == ["x", "block", "block/x", "block/linear"]
    edges = "[...document.querySelectorAll('#world .edge')].filter(made => made.dataset.trace === 'before').length"
    assert page.run(edges) == 4  # two lines are one connection: to the frame, and on to the input inside
    page.click("#before")
    assert page.run(traced) == []


def test_everything_works_without_a_mouse(show):
    page = show(drawn_graphs.nested(), depth=0)
    page.press("/")
    page.type("stack")
    page.press("Enter")
    assert page.run(FOCUSED) == "stack"
    assert page.run(OPEN) == []
    page.press("Enter")
    assert page.run(OPEN) == ["stack"]
    assert page.run(FOCUSED) == "stack"
    page.press("Tab", "Tab")
    assert page.run(FOCUSED) == "stack/blocks_0"
    assert page.run(CARD) == ["Block", "stack/blocks_0"]
    page.press("Enter")
    assert page.run(OPEN) == ["stack", "stack/blocks_0"]
    page.press("Tab", "Tab")
    assert page.run(FOCUSED) == "stack/blocks_0/linear"
    page.press("Shift+ArrowDown")
    assert page.run(FOCUSED) == "stack/blocks_0/tanh"
    page.press("Shift+ArrowUp", "Shift+ArrowUp")
    assert page.run(FOCUSED) == "stack/blocks_0/x"
    ring = "getComputedStyle(document.activeElement.querySelector('rect')).stroke"
    assert page.run(ring) == "rgb(11, 87, 208)"
    page.press("Escape")
    assert page.run(CARD)[0] == "nested"


def test_the_drawing_moves_and_zooms(show):
    page = show(drawn_graphs.nested(), depth=0)
    page.press("0")
    fitted = page.run(CAMERA)
    for there, back in (("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"), ("+", "-")):
        page.press(there)
        assert page.run(CAMERA) != fitted
        page.press(back)
        assert page.run(CAMERA) == fitted
    before = page.middle(selector("stack"))
    page.drag(60, 500, 160, 540)
    assert page.middle(selector("stack")) == pytest.approx((before[0] + 100, before[1] + 40), abs=1)
    assert page.run(OPEN) == []  # a drag is no click
    x, y = page.middle(selector("stack"))
    page.wheel(x, y, -200)
    page.wait_for(f"{CAMERA} !== {json.dumps(fitted)} && state.camera.scale > 1.2")
    assert page.middle(selector("stack")) == pytest.approx((x, y), abs=1)  # the point under the cursor stays
    page.click("#fit")
    assert page.run(CAMERA) == fitted


def test_depth_opens_and_closes_levels(show):
    page = show(drawn_graphs.nested(), depth=1)
    assert page.run("document.querySelector('#depth').value") == "1"
    page.click("#open")
    assert len(page.run(OPEN)) == 6
    page.click("#close")
    assert page.run(OPEN) == []
    page.run("document.querySelector('#depth').focus()")
    page.press("ArrowRight", "ArrowRight")
    assert len(page.run(OPEN)) == 6
    page = show(drawn_graphs.nested(), depth=0, expand="stack/blocks_1")
    assert page.run(OPEN) == ["stack", "stack/blocks_1"]


def test_the_backward_view_numbers_the_way_of_the_gradient(show):
    x, ids = Input(("batch", 4), name="x"), Input(("batch", 4), dtype="int64", name="ids")
    total = layers.Add(name="sum")(layers.Tanh(name="tanh")(x), Numbers(name="numbers")(ids))
    graph = Graph([x, ids], total, name="net")
    page = show(graph)
    badges = (
        "Object.fromEntries([...document.querySelectorAll('#world .node')].map(made => "
        "[made.dataset.path, made.querySelector('.step')?.textContent]))"
    )
    forward = {path: step for path, step in page.run(badges).items() if step}
    assert forward == {leaf.path: str(step) for step, leaf in enumerate(flatten(graph).leaves, 1)}
    page.press("b")
    assert page.run("document.querySelector('#view').value") == "backward"
    backward = page.run(badges)
    assert backward["sum"] == "1"
    assert backward["tanh"] == "2"
    assert backward["numbers"] == "no gradient"
    assert page.run("document.querySelectorAll('#world .edge.idle').length") == 2
    assert show(drawn_graphs.nested(), view="backward").run("state.view") == "backward"


@dataclass(frozen=True, eq=False)
class Numbers(Layer):
    """As many zeros as there are integers."""

    def lower(self, scope, x):
        return scope.fill(0.0, x.spec.shape)


@dataclass(frozen=True, eq=False)
class Evil(Layer):
    """A layer whose kind and hyper-parameter try to become markup."""

    note: str = "\u2028'\"--></script><script>document.title = 'hacked'</script>"

    @property
    def kind(self) -> str:
        return "</script><img src=x onerror=\"document.title = 'hacked'\">"

    def lower(self, scope, x):
        return x


def test_hostile_names_are_text(show):
    x = Input(("batch", 4), name='" onload="document.title = 1')
    graph = Graph(x, {"$&{document.title = 2}": Evil(name="evil")(x), "plain": x}, name='"&lt;script&gt;"')
    page = show(graph, depth=9)
    page.click(selector("evil"))
    assert page.run(CARD) == [Evil().kind, "evil"]
    page.press("/")
    page.type("img")
    assert page.run("[...document.querySelectorAll('#results li')].map(made => made.textContent)") == [
        f"evil {Evil().kind}"
    ]
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.title") == graph.name


@pytest.mark.parametrize("preferred", ["light", "dark"])
def test_dark_and_light_follow_the_reader_and_the_key(show, preferred):
    page = show(drawn_graphs.chain(2), {"prefers_color_scheme": preferred})
    paper = "getComputedStyle(document.body).backgroundColor"
    other = "light" if preferred == "dark" else "dark"
    assert page.run(paper) == rgb(getattr(BASE["paper"], preferred))
    page.press("t")
    assert page.run(paper) == rgb(getattr(BASE["paper"], other))
    page.click("#theme")
    assert page.run(paper) == rgb(getattr(BASE["paper"], preferred))
    assert show(drawn_graphs.chain(2), {"prefers_color_scheme": preferred}, theme=other).run(paper) == rgb(
        getattr(BASE["paper"], other)
    )


APART = """(() => {
  const faults = [];
  const [right, low] = [(a) => a.x + a.width, (a) => a.y + a.height];
  const within = (a, b) => a.x >= b.x && a.y >= b.y && right(a) <= right(b) && low(a) <= low(b);
  const apart = (a, b) => right(a) <= b.x || right(b) <= a.x || low(a) <= b.y || low(b) <= a.y;
  const drawn = [...state.spots.keys()];
  for (const a of drawn) {
    if (nodes[a].parent && !within(state.spots.get(a), state.spots.get(nodes[a].parent))) faults.push(nodes[a].path);
    for (const b of drawn) {
      if (a < b && nodes[a].parent === nodes[b].parent && !apart(state.spots.get(a), state.spots.get(b)))
        faults.push([nodes[a].path, nodes[b].path]);
    }
  }
  return faults;
})()"""


@pytest.mark.parametrize("seed", range(4))
def test_boxes_stay_apart_and_in_their_frames_whatever_is_open(show, seed):
    page = show(drawn_graphs.random_graph(seed) if seed else drawn_graphs.nested())
    modules = page.run("nodes.flatMap((node, place) => (place && isModule(place) ? [place] : []))")
    for pattern in range(1, 2 ** min(len(modules), 5)):
        chosen = [place for bit, place in enumerate(modules) if pattern >> bit % 5 & 1]
        page.run(f"openOnly({chosen})")
        assert page.run(APART) == []


def test_a_large_graph_opens_soon(show):
    graph = drawn_graphs.chain(1600, skip=4)
    assert len(graph.nodes) == 2000
    page = show(graph)
    assert page.seconds < 3
    assert len(page.run(PATHS)) == 2002


def test_it_prints_on_one_page(show):
    page = show(drawn_graphs.nested(), {"prefers_color_scheme": "dark"}, depth=0)
    before = page.run(CAMERA)
    assert page.pdf().count(b"/Type /Page\n") == 1
    assert page.run(CAMERA) == before
