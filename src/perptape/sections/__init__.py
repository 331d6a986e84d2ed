"""The parts of the page, one a file: findings in, HTML out."""

from perptape.sections.completeness import completeness
from perptape.sections.matrix import matrix
from perptape.sections.one_pair import one_pair
from perptape.sections.opening import opening
from perptape.sections.pairs import pairs
from perptape.sections.provenance import provenance
from perptape.sections.takes import takes
from perptape.sections.ties import ties
from perptape.sections.timing import timing

SECTIONS = (opening, completeness, matrix, takes, pairs, one_pair, timing, ties, provenance)
"""In the order of the page."""
