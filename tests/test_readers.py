"""Files of numbers: what is written is read, and whatever else is in them is a ValueError."""

import io
import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clarke.readers import read_array

ARRAYS = hnp.arrays(
    st.sampled_from(["<f8", "<i4", ">f4", "?"]), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4, min_side=0)
)
ANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@ANY
@given(ARRAYS, st.booleans())
def test_what_numpy_saves_is_read(tmp_path, array, fortran):
    (tmp_path / "a.npy").write_bytes(saved(np.asfortranarray(array) if fortran else array))
    found = read_array(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@ANY
@given(hnp.arrays(float, (2, 3), elements=st.floats(-9, 9)))
def test_rows_of_numbers_are_read_from_csv_and_json(tmp_path, array):
    (tmp_path / "a.csv").write_text("\n".join(",".join(map(repr, row)) for row in array.tolist()))
    (tmp_path / "a.JSON").write_text(json.dumps(array.tolist()))
    np.testing.assert_array_equal(read_array(tmp_path / "a.csv"), array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.JSON"), array)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "double"]), st.integers(0, 400), st.binary(min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=4,
)


def changed(content, changes):
    for kind, place, extra in changes:
        at = place % (len(content) + 1)
        if kind == "set":
            content = content[:at] + extra + content[at + len(extra) :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + extra + content[at:]
        else:
            content = content + content[at:]
    return content


VALID = {
    ".npy": saved(np.arange(6.0).reshape(2, 3)),
    ".csv": b"1,2,3\n4,5,6\n",
    ".json": b"[[1, 2.5, -3e2], [4, 5, 6]]",
}


@pytest.mark.parametrize("suffix", VALID)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=CHANGES)
def test_mutated_bytes_are_numbers_or_a_value_error(tmp_path, suffix, changes):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(changed(VALID[suffix], changes))
    try:
        found = read_array(path)
    except ValueError:
        return
    assert found.dtype.kind in "biuf"


@pytest.mark.parametrize("suffix", VALID)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=100))
def test_any_bytes_are_numbers_or_a_value_error(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with suppress(ValueError):
        read_array(path)


def npy(header):
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"1", r"arrays are read from .npy, .csv, .json files; got .txt"),
        ("a", b"1", "got no suffix"),
        ("a.csv", b"1 2", "a .csv file has commas between the numbers"),
        ("a.json", b"[" * 100_000, "no array of numbers: RecursionError"),
        ("a.json", b'{"a": 1}', "no array of real numbers: its entries are object"),
        ("a.json", b'["a"]', "no array of real numbers: its entries are <U1"),
        ("a.json", b"[[1], [2, 3]]", "inhomogeneous"),
        (
            "a.npy",
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"),
            r"the header promises 8000000000000 bytes, shape \(1000000000000,\) of float64; there are 0",
        ),
        ("a.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "allow_pickle=False"),
        ("a.npy", npy("{'descr': '<c16', 'fortran_order': False, 'shape': (0,), }"), "its entries are complex128"),
        ("a.npy", b"\x93NUMPY\x09\x00", r"a .npy file of version \(9, 0\)"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_array(tmp_path / name)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "a.npy")
