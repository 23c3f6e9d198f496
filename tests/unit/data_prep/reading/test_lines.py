import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from data_prep.reading.lines import BYTE_ORDER_MARK, CHUNK_BYTES, count_lines_before, iterate_lines

DATA = st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n").replace(BYTE_ORDER_MARK, b""))


@given(DATA, st.integers(0, 70))
def test_lines_are_those_that_begin_at_a_byte_or_later_and_are_numbered_from_there(data: bytes, start: int) -> None:
    begins = [0, *(place + 1 for place, byte in enumerate(data) if byte == 10)]
    wanted = [at for at in begins if start <= at < len(data)]
    lines = list(iterate_lines(io.BytesIO(data), limit=1000, start=start))
    assert [line.offset for line in lines] == wanted
    assert b"".join(line.data for line in lines) == data[wanted[0] if wanted else len(data) :]
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    if wanted:
        assert count_lines_before(io.BytesIO(data), start) == data.count(b"\n", 0, wanted[0])


@given(DATA, st.integers(1, 20))
def test_a_long_line_is_cut_but_its_length_and_the_lines_after_it_are_true(data: bytes, limit: int) -> None:
    lines = list(iterate_lines(io.BytesIO(data), limit))
    whole = data.split(b"\n")
    kept = [line + b"\n" for line in whole[:-1]] + ([whole[-1]] if whole[-1] else [])
    assert [line.length for line in lines] == [len(line) for line in kept]
    assert [line.data for line in lines] == [line[: limit + 1] for line in kept]


def test_a_range_inside_a_long_line_is_left_after_its_end_and_not_at_the_end_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (5 * CHUNK_BYTES) + b"\nnext\n")
    with path.open("rb") as file:
        assert list(iterate_lines(file, 10, start=100, stop=CHUNK_BYTES)) == []
        assert file.tell() < 3 * CHUNK_BYTES


def test_a_byte_order_mark_is_in_no_line_but_counts_in_offsets() -> None:
    lines = list(iterate_lines(io.BytesIO(BYTE_ORDER_MARK + b"a\n" + BYTE_ORDER_MARK + b"b\n"), limit=10))
    assert [line.data for line in lines] == [b"a\n", BYTE_ORDER_MARK + b"b\n"]
    assert [line.offset for line in lines] == [0, 5]
    assert list(iterate_lines(io.BytesIO(BYTE_ORDER_MARK), limit=10)) == []
