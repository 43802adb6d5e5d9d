"""Objects on their way from the server."""

from walg_core.errors import TransientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PIECE = 1 << 20


class Download:
    """Reads an answer of `size` bytes; a shorter one raises TransientError."""

    def __init__(self, answer: "Any", key: str, size: int, etag: str | None) -> None:
        self._answer = answer
        self._key = key
        self._left = size
        self.etag = etag

    def read(self, size: int = -1, /) -> bytes:
        if not size or not self._left or self._answer is None:
            return b""
        try:
            piece: bytes = self._answer.read(min(self._left, PIECE if size < 0 else size), decode_content=False)
        except Exception as error:  # urllib3's, http.client's and the socket's: all mean that the line is lost
            self.close()
            raise TransientError(f"reading '{self._key}' broke off: {error}", key=self._key) from error
        if not piece:
            self.close()
            raise TransientError(f"'{self._key}' ended {self._left} bytes early", key=self._key)
        self._left -= len(piece)
        if not self._left:
            answer, self._answer = self._answer, None
            answer.drain_conn()
            answer.release_conn()
        return piece

    def close(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()


class Nothing:
    """An empty range."""

    etag: str | None = None

    def read(self, _size: int = -1, /) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is held."""
