"""What was read, with which contracts, fees, versions and parameters."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from perptape.findings import Contract, Fee, Report, Source
from perptape.sections.elements import Row, esc, number_cell, row_head, table, text_cell
from perptape.wording import NONE, bps


def provenance(report: Report) -> str:
    p = report.provenance
    tapes = ["<Tape", "<SHA-256 of its tape.json", "<Recorded by"]
    contracts = ["<Market", "<Symbol", "<Kind", "Contract size", "Tick", "Lot"]
    fees = ["<Venue", "Fee", "<Source", "Date"]
    given = [[row_head(esc(k)), text_cell(v, "wrap")] for k, v in p.parameters.items()]
    return (
        '<section id="provenance"><h2>Where the numbers come from</h2>'
        + _titled("Tapes", tapes, [_tape(s) for s in p.tapes])
        + _titled("Contracts", contracts, [_contract(c) for c in p.contracts])
        + _titled("Taker fees, base tier unless given", fees, [_fee(f) for f in p.fees])
        + "".join(
            _titled(f"Compared with the fees of {esc(tier)}", fees, [_fee(f) for f in of])
            for tier, of in p.tiers.items()
        )
        + _titled("Programs", ["<Name", "<Version"], _versions(p.versions))
        + _titled("Parameters", ["<Name", "<Value"], given)
        + f"</section><footer>Made by perptape {esc(p.perptape)}. This page is one file, "
        "loads nothing and sends nothing. Charts: uPlot 1.6.32, MIT licence.</footer>"
    )


def _titled(heading: str, heads: Sequence[str], rows: Sequence[Row]) -> str:
    return f"<h3>{heading}</h3>{table(heads, rows)}" if rows else ""


def _versions(versions: Mapping[str, str]) -> list[Row]:
    return [[row_head(esc(name)), text_cell(version)] for name, version in versions.items()]


def _tape(source: Source) -> Row:
    return [
        row_head(esc(source.tape)),
        text_cell(source.sha256, "hash"),
        text_cell(source.recorded_by or NONE),
    ]


def _contract(contract: Contract) -> Row:
    return [
        row_head(esc(contract.market)),
        text_cell(contract.symbol or NONE),
        text_cell(contract.kind or NONE),
        number_cell(_plain(contract.contract_size)),
        number_cell(_plain(contract.tick_size)),
        number_cell(_plain(contract.lot_size)),
    ]


def _fee(fee: Fee) -> Row:
    return [
        row_head(esc(fee.venue)),
        number_cell(f"{bps(1e4 * fee.taker)} bps"),
        text_cell(fee.source or NONE, "wrap"),
        number_cell(fee.date or NONE),
    ]


def _plain(value: float | None) -> str:
    return NONE if value is None else f"{Decimal(f'{value:.12g}'):f}"
