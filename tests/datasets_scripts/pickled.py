"""What tests of the safe reader of pickles share: pieces of pickles by hand, and a measure of memory."""

import io
import pickle
import struct
import tracemalloc

DTYPE = b"cnumpy\ndtype\n(V%s\nI0\nI1\ntR"
NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
ENCODE = b"c_codecs\nencode\n"
FLOAT32 = DTYPE % b"f4" + b"(I3\nV<\nNNNI-1\nI-1\nI0\ntb"
EMPTY_STRING = DTYPE % b"S0" + b"(I3\nV|\nNNNI0\nI1\nI0\ntb"
OBJECTS = DTYPE % b"O8" + b"(I3\nV|\nNNNI-1\nI-1\nI63\ntb"
FROMBUFFER = b"cnumpy.core.numeric\n_frombuffer\n("
ARRAY_STATE = b"(I1\n(I1\nt" + FLOAT32 + b"I00\nC\x04abcdt"
BYTES_5000 = DTYPE % b"S5000" + b"(I3\nV|\nNNNI5000\nI1\nI0\ntb"
LETTER = DTYPE % b"U1" + b"(I3\nV<\nNNNI4\nI4\nI8\ntb"


def write(folder, content, name="file.pkl"):
    path = folder / name
    path.write_bytes(content)
    return path


def python2_array(raw, shape=b"I3"):
    """A float32 array as Python 2 writes it in protocol 0; `raw` is the instruction for its content."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(" + shape + b"\ntcnumpy\ndtype\n"
        b"(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n" + raw + b"tb"
    )


def pure_python_pickle(value, protocol):
    file = io.BytesIO()
    pickle._Pickler(file, protocol).dump(value)
    return file.getvalue()


def counted(code, form, size, content=b"abc"):
    return code + struct.pack(form, size) + content


class peak_memory:  # noqa: N801
    """The most bytes that Python and numpy held at once within the block, above what they held before."""

    def __enter__(self):
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        return lambda: self._peak

    def __exit__(self, *args):
        self._peak = tracemalloc.get_traced_memory()[1] - self._before
        tracemalloc.stop()
