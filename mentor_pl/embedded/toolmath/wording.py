"""What the problems say. The first two wordings of everything are in domain; the last two are kept for the split `phrase`."""

from __future__ import annotations

NAMES = ("Tom", "Ana", "Lee", "Sue", "Max", "Ivy")
OBJECTS = ("apples", "cards", "coins", "books", "shells", "beads")

OPENING = "{name} has {start} {objects}."

USUAL_WORDINGS = (0, 1)
UNSEEN_WORDINGS = (2, 3)
ALL_WORDINGS = (0, 1, 2, 3)

SENTENCES: dict[str, tuple[str, str, str, str]] = {
    "add": (
        "{name} buys {a} more.",
        "{name} finds {a} more.",
        "Then {a} extra arrive.",
        "A friend brings {a} to {name}.",
    ),
    "subtract": (
        "{name} gives away {a}.",
        "{name} loses {a}.",
        "Then {a} are taken out.",
        "A friend takes {a} from {name}.",
    ),
    "multiply": (
        "The amount grows {a} times.",
        "{name} gets {a} such piles.",
        "Now it becomes {a} times as many.",
        "There are {a} equal sets of it.",
    ),
    "divide": (
        "{name} splits it equally into {a} parts and keeps one.",
        "{name} shares it equally among {a} friends, one share stays.",
        "It is cut into {a} equal parts, one is kept.",
        "Each of {a} people gets the same share, look at one.",
    ),
    "remainder": (
        "{name} packs bags of {a} and keeps the leftover.",
        "{name} fills rows of {a} and keeps what remains.",
        "It is put in groups of {a}, only the rest is kept.",
        "Boxes of {a} are sold, the leftover is kept.",
    ),
    "full_groups": (
        "{name} packs bags of {a} and counts full bags.",
        "{name} fills rows of {a} and counts full rows.",
        "It is put in groups of {a}, count complete groups.",
        "Boxes of {a} are sold, count the full boxes.",
    ),
    "groups_needed": (
        "{name} needs bags of {a} for all and counts bags.",
        "{name} needs rows of {a} for all and counts rows.",
        "All must fit in groups of {a}, count the groups.",
        "Boxes of {a} must hold all, count the boxes.",
    ),
    "rounded_share": (
        "{name} splits it by {a} and rounds the part.",
        "{name} divides it by {a} and takes the nearest whole.",
        "It is cut by {a}, rounded to the nearest.",
        "One of {a} parts is rounded.",
    ),
    "sum": (
        "{name} gets {a}, {b} and {c} at once.",
        "{name} collects {a}, {b} and {c} together.",
        "Piles of {a}, {b} and {c} are joined to it.",
        "Three gifts of {a}, {b} and {c} come.",
    ),
    "square": (
        "The number is squared.",
        "{name} makes a square with this side and counts tiles.",
        "It is multiplied by itself.",
        "Each one brings as many again as there are.",
    ),
    "gap": (
        "{name} compares it with {a} and notes the gap.",
        "{name} notes how far it is from {a}.",
        "Find the distance between it and {a}.",
        "The target was {a}, note how far off.",
    ),
    "side": (
        "It is laid as a square and {name} counts one side.",
        "{name} takes the square root.",
        "One side of the square made of it is counted.",
        "Find the side of that square.",
    ),
}

ENDINGS = (
    "How many {objects} is that?",
    "What is the number now?",
    "Give the final count.",
    "Tell the result.",
)
