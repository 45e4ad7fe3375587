"""Colours of pictures in two themes, as data that a test can measure, and as CSS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphnn.errors import OptionError

THEMES = ("auto", "light", "dark")
FONT = "font-family:Helvetica,Arial,'Segoe UI',Roboto,sans-serif"


@dataclass(frozen=True)
class Colour:
    """One colour in the light and in the dark theme."""

    light: str
    dark: str


# Text is drawn in "ink" and "faint", on "paper", a group, or any fill.
BASE = {
    "paper": Colour("#ffffff", "#14171c"),
    "ink": Colour("#171b21", "#f0f3f7"),
    "faint": Colour("#474f5b", "#bcc5d0"),
    "line": Colour("#596371", "#98a3b0"),
    "group-even": Colour("#f5f6f8", "#1c2027"),
    "group-odd": Colour("#ebedf1", "#252a32"),
    "frame": Colour("#707a87", "#7d8794"),
}
# For each family of layers: (fill, border).
CATEGORIES = {
    "input": (Colour("#e3eaf2", "#26313d"), Colour("#4a6078", "#8fa9c4")),
    "output": (Colour("#e3eaf2", "#26313d"), Colour("#4a6078", "#8fa9c4")),
    "layer": (Colour("#dbe9fb", "#17304d"), Colour("#2563a8", "#6aaaf0")),
    "activation": (Colour("#fde7d3", "#43290f"), Colour("#b35309", "#f0a35e")),
    "join": (Colour("#dcf3df", "#143a1d"), Colour("#2a7d3a", "#64c978")),
    "normalization": (Colour("#d2f1ee", "#0f3a3b"), Colour("#13757a", "#55c4c4")),
    "pooling": (Colour("#ece3fa", "#2f2150"), Colour("#7446b8", "#b795f2")),
    "recurrent": (Colour("#fbdfe6", "#47182a"), Colour("#b3304f", "#f2879f")),
    "attention": (Colour("#f9dff4", "#43183c"), Colour("#a0308f", "#ea86d8")),
    "shape": (Colour("#ece6da", "#35302a"), Colour("#75684f", "#bfae90")),
    "embedding": (Colour("#f8f0c8", "#3a3410"), Colour("#857000", "#d8c04a")),
    "dropout": (Colour("#e6e8eb", "#2d3238"), Colour("#636b76", "#a2abb6")),
    "module": (Colour("#e3e6fb", "#232650"), Colour("#4a51b5", "#9aa2f5")),
    # Families of ops, for drawings of programs.
    "parameter": (Colour("#f8f0c8", "#3a3410"), Colour("#857000", "#d8c04a")),
    "fused": (Colour("#ece3fa", "#2f2150"), Colour("#7446b8", "#b795f2")),
    "product": (Colour("#dbe9fb", "#17304d"), Colour("#2563a8", "#6aaaf0")),
    "elementwise": (Colour("#fde7d3", "#43290f"), Colour("#b35309", "#f0a35e")),
    "reduction": (Colour("#d2f1ee", "#0f3a3b"), Colour("#13757a", "#55c4c4")),
    "movement": (Colour("#ece6da", "#35302a"), Colour("#75684f", "#bfae90")),
    "constant": (Colour("#e6e8eb", "#2d3238"), Colour("#636b76", "#a2abb6")),
    "loop": (Colour("#fbdfe6", "#47182a"), Colour("#b3304f", "#f2879f")),
    "stop": (Colour("#f1f2f4", "#262a30"), Colour("#5d6672", "#a0a9b4")),
    "failure": (Colour("#fde3e1", "#4a1512"), Colour("#c0241b", "#ff8a80")),
    "other": (Colour("#f1f2f4", "#262a30"), Colour("#5d6672", "#a0a9b4")),
}
# Of an overlay's scale, from the least to the most number; text on them is drawn in "ink".
HEAT = (
    Colour("#fff9ec", "#221d18"),
    Colour("#feeccb", "#31241a"),
    Colour("#fdddaa", "#402b1a"),
    Colour("#fccd8c", "#50311a"),
    Colour("#fabb71", "#613719"),
    Colour("#f7a75b", "#733d17"),
    Colour("#f29249", "#864314"),
    Colour("#ec7c3a", "#9a4810"),
)
# Stripes on the boxes that use the same parameters; a letter says the same, so a colour may come back.
STRIPES = (
    Colour("#b3304f", "#f2879f"),
    Colour("#00785a", "#3ec9a0"),
    Colour("#6a3fb0", "#b795f2"),
    Colour("#8a5a00", "#e0b050"),
    Colour("#0063a3", "#56b4e9"),
    Colour("#474f5b", "#bcc5d0"),
)
WARNING = Colour("#b3150c", "#ff9d94")
# Curves of a chart, told apart by colour, dashes and marks; from Okabe and Ito's palette for colour-blind readers,
# darkened for light paper.
SERIES = (
    Colour("#0063a3", "#56b4e9"),
    Colour("#b84a00", "#f0a35e"),
    Colour("#00785a", "#3ec9a0"),
    Colour("#a3457d", "#e39ac4"),
    Colour("#7a6a00", "#e0d050"),
    Colour("#474f5b", "#bcc5d0"),
)


def category_of(name: str) -> str:
    """`name`, or "other" for a family that has no colour of its own."""
    return name if name in CATEGORIES else "other"


def variables(colours: Mapping[str, Colour]) -> str:
    """CSS that defines `--gnn-<name>` for all, and again for readers who prefer dark."""
    light = ";".join(f"--gnn-{name}:{colour.light}" for name, colour in colours.items())
    dark = ";".join(f"--gnn-{name}:{colour.dark}" for name, colour in colours.items())
    return f".gnn{{{light}}}@media (prefers-color-scheme:dark){{.gnn{{{dark}}}}}"


@dataclass(frozen=True)
class Rule:
    """A CSS rule that paints: `paints` maps fill or stroke to (name of a variable, its colour)."""

    selector: str
    paints: Mapping[str, tuple[str, Colour]]
    extra: str = ""


def style_sheet(rules: Iterable[Rule], theme: str = "auto") -> str:
    """CSS in one theme; "auto" has the light one, and for readers that know CSS variables also the dark one.

    Raises:
        OptionError: another theme.
    """
    if theme not in THEMES:
        raise OptionError("there is no such choice", where="theme", expected=", ".join(THEMES), got=repr(theme))
    rules = list(rules)
    plain = [f"{rule.selector}{{{';'.join(_plain_parts(rule, theme))}}}" for rule in rules]
    if theme != "auto":
        return "".join(plain)
    themed = [
        f"{rule.selector}{{{';'.join(f'{key}:var(--gnn-{name})' for key, (name, _) in rule.paints.items())}}}"
        for rule in rules
        if rule.paints
    ]
    colours = {name: colour for rule in rules for name, colour in rule.paints.values()}
    return "".join([*plain, f"@supports(fill:var(--a)){{{''.join(themed)}}}", variables(colours)])


def _plain_parts(rule: Rule, theme: str) -> list[str]:
    return [
        *(f"{key}:{colour.dark if theme == 'dark' else colour.light}" for key, (_, colour) in rule.paints.items()),
        *([rule.extra] if rule.extra else []),
    ]


def base(selector: str, extra: str = "", **paints: str) -> Rule:
    """A rule that paints with colours of BASE."""
    return Rule(selector, {key: (name, BASE[name]) for key, name in paints.items()}, extra)


def figure_css(categories: Iterable[str], theme: str = "auto", marks: Iterable[Rule] = ()) -> str:
    """Style sheet of a drawn graph that has boxes of these families and these further marks."""
    rules = [
        base(".gnn text", FONT + ";font-size:11px", fill="ink"),
        base(".gnn .gnn-t", "font-size:13px;font-weight:700"),
        base(".gnn .gnn-h", "font-size:16px;font-weight:700"),
        base(".gnn .gnn-s", "font-size:12px"),
        base(".gnn .gnn-b", "font-weight:700"),
        base(".gnn .gnn-f", fill="faint"),
        base(".gnn-paper", fill="paper"),
        base(".gnn-edge", "stroke-width:1.3;fill:none", stroke="line"),
        base(".gnn-tip", fill="line"),
        base(".gnn-count", fill="paper", stroke="line"),
        base(".gnn-lock", fill="ink"),
        base(".gnn-shackle", "stroke-width:1.5;fill:none", stroke="ink"),
    ]
    for shade in ("even", "odd"):
        rules.append(base(f".gnn-group-{shade}", fill=f"group-{shade}", stroke="frame"))
        rules.append(base(f".gnn-back-{shade}", fill=f"group-{shade}"))
    for name in categories:
        fill, border = CATEGORIES[name]
        paints = {"fill": (f"{name}-fill", fill), "stroke": (f"{name}-edge", border)}
        rules.append(Rule(f".gnn-{name}", paints, "stroke-width:1.3"))
    rules.append(base(".gnn .gnn-frozen", "stroke-dasharray:6 3;stroke-width:1.8"))
    rules.append(base(".gnn .gnn-dots", "stroke-dasharray:1 3"))
    return style_sheet([*rules, *marks], theme)


def mark_rules(heats: Iterable[int], stripes: Iterable[int], badges: Iterable[str]) -> list[Rule]:
    """Rules for the steps of a scale, the stripes and the kinds of badges that a picture has."""
    heats, stripes, badges = list(heats), list(stripes), list(badges)
    rules = [Rule(f".gnn .gnn-heat-{step}", {"fill": (f"heat-{step}", HEAT[step])}) for step in heats]
    rules += [base(".gnn .gnn-hot", fill="ink")] if heats else []
    for index in dict.fromkeys(number % len(STRIPES) for number in stripes):
        rules.append(Rule(f".gnn-stripe-{index}", {"fill": (f"stripe-{index}", STRIPES[index])}))
    if badges:
        rules.append(base(".gnn-badge", "stroke-width:1", fill="paper", stroke="line"))
    if "repeat" in badges or "order" in badges:
        rules += [base(".gnn .gnn-strong", fill="ink", stroke="ink"), base(".gnn .gnn-inverse", fill="paper")]
    if "flag" in badges:
        rules.append(Rule(".gnn .gnn-warning", {"stroke": ("warning", WARNING)}, "stroke-width:2.5"))
        rules.append(Rule(".gnn .gnn-warning-text", {"fill": ("warning", WARNING)}))
    return rules


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two `#rrggbb` colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
