"""A directory behind SSH as a storage (spec/storages.md 4.2): files over SFTP, written beside and renamed."""

import posixpath
import stat as modes
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from walg_core.errors import IntegrityError, NoSpace, ObjectExists, ObjectNotFound, PermanentError, TransientError
from walg_core.io.atomic import is_temporary, temporary_name
from walg_core.pipeline.reader import CHUNK, Reader
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix, key_problem

from walg_storage_ssh.target import Target, read

if TYPE_CHECKING:
    import asyncssh
    from walg_core.settings.config import Config

    from walg_storage_ssh.session import Session
    from walg_storage_ssh.transfer import Upload

_ATTEMPTS = 100


def create(config: "Config", prefix: str) -> "SshStorage":
    """The storage of `WALG_SSH_PREFIX`. Raises ConfigError; touches no network."""
    return SshStorage(read(config, prefix))


class SshStorage(Storage):
    """Objects are files below the target's root. Missing folders are made by writing, emptied ones go.

    A put writes a temporary file beside, has the server make it durable (`fsync@openssh.com`), renames it in one step
    (`posix-rename@openssh.com`) and makes the folder durable, as far as the server has these extensions.
    """

    file_system = True
    capabilities = Capabilities(put_if_absent=True, keys_may_nest=False)

    def __init__(self, target: Target) -> None:
        self._target = target
        self._root = target.root
        at = f"{target.user}@" if target.user else ""
        host = f"[{target.host}]" if ":" in target.host else target.host
        self.description = f"ssh://{at}{host}:{target.port}{target.root}"
        self._made: Session | None = None
        self._making = threading.Lock()

    @property
    def _session(self) -> "Session":
        # One for all threads, also for those that come while the first still imports: an upload stays in one session.
        with self._making:
            if self._made is None:
                from walg_storage_ssh.session import Session

                self._made = Session(self._target, self.description)
            return self._made

    def identity(self) -> str:
        from walg_core.storage.identity import go_json

        target = self._target
        return "sh" + go_json(
            {
                "Host": target.host,
                "Port": str(target.port),
                "RootPath": target.root,
                "User": target.user,
                "PrivateKeyPath": target.key_path or "",
            }
        )

    # Reading.

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        return self._walk(check_prefix(prefix), start_after or "")

    def _walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        for name, attributes in self._entries(prefix):
            key = prefix + name
            if name.endswith("/"):
                if key > start_after or start_after.startswith(key):
                    yield from self._walk(key, start_after)
            elif key > start_after and modes.S_ISREG(attributes.permissions or 0):
                yield _describe(key, attributes)

    def _entries(self, prefix: str) -> "Sequence[tuple[str, asyncssh.SFTPAttrs]]":
        """Names (directories with a final slash), sorted so that whole keys come out in byte order."""
        from walg_storage_ssh import directory

        path = self._path(prefix).rstrip("/")
        found = self._session.run(lambda client: directory.entries(client, path), prefix, "list")
        out = []
        for name, attributes in found:
            problem = key_problem(prefix + name)
            if problem:
                from walg_core.observe import log

                log.warning(
                    f"a file is left out of the listing, its name {prefix + name!r} cannot be an object's: {problem}"
                )
            elif modes.S_ISDIR(attributes.permissions or 0):
                out.append((name + "/", attributes))
            elif not is_temporary(name):
                out.append((name, attributes))
        out.sort(key=lambda pair: pair[0])
        return out

    def list_dirs(self, prefix: str = "") -> Sequence[str]:
        return [prefix + name for name, _ in self._entries(check_prefix(prefix)) if name.endswith("/")]

    def list_dir(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for name, attributes in self._entries(check_prefix(prefix)):
            if modes.S_ISREG(attributes.permissions or 0):
                yield _describe(prefix + name, attributes)

    def stat(self, key: str) -> ObjectInfo:
        path = self._path(check_key(key))
        try:
            found = self._session.run(lambda client: client.stat(path), key, "look at")
        except TransientError:
            # Protocol 3 has no code for "the path goes through a file".
            if self._through_a_file(key):
                raise self._missing(key) from None
            raise
        except ObjectNotFound:
            raise self._missing(key) from None
        if not modes.S_ISREG(found.permissions or 0):
            raise self._missing(key)
        return _describe(key, found)

    def _through_a_file(self, key: str) -> bool:
        from walg_storage_ssh import directory

        parent = posixpath.dirname(self._path(key))
        return not self._session.run(lambda client: directory.is_dir(client, parent), key, "look at")

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        import asyncssh

        from walg_storage_ssh.transfer import Download, close_quietly

        path = self._path(check_key(key))

        async def start(client: asyncssh.SFTPClient) -> Any:
            file = await client.open(path, asyncssh.FXF_READ, encoding=None)
            try:
                return file, await file.stat()
            except BaseException:
                await close_quietly(file)
                raise

        try:
            file, found = self._session.run(start, key, "read")
        except (ObjectNotFound, TransientError):
            self.stat(key)  # says whether it is missing, a folder, or there
            raise
        if not modes.S_ISREG(found.permissions or 0):
            self._session.later(close_quietly(file))
            raise self._missing(key)
        left = max(0, (found.size or 0) - offset)
        etag = f"{_nanoseconds(found)}-{found.size}"
        return Download(self._session, file, key, offset, left if length is None else min(left, length), etag)

    # Writing.

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        check_key(key)
        writer = _Writer(self, key, getattr(body, "moved", None))
        if if_absent and self.exists(key):
            raise ObjectExists(key)
        try:
            while piece := body.read(CHUNK):
                writer.write(piece)
            if size is not None and writer.count != size:
                raise IntegrityError(
                    f"put '{key}': the body has {writer.count} bytes, {size} were announced; nothing was stored"
                )
            writer.commit(if_absent)
        except BaseException:
            writer.discard()
            raise
        return writer.count

    def copy(self, source: str, target: str) -> None:
        check_key(target)
        path = self._path(check_key(source))
        self.stat(source)
        if not self._session.run(_can_copy, source, "copy"):
            super().copy(source, target)
            return
        writer = _Writer(self, target, None)
        try:
            writer.copy(path)
            writer.commit(False)
        except BaseException:
            writer.discard()
            raise

    def delete(self, keys: Iterable[str]) -> None:
        from walg_storage_ssh import directory

        paths = [self._path(check_key(key)) for key in keys]
        parents = sorted({posixpath.dirname(path) for path in paths}, reverse=True)
        root = self._root

        async def work(client: "asyncssh.SFTPClient") -> None:
            await directory.unlink(client, paths)
            for parent in {await directory.remove_empty(client, parent, root) for parent in parents}:
                await directory.sync(client, parent)

        if paths:
            self._session.run(work, "objects", "delete")

    def close(self) -> None:
        session, self._made = self._made, None
        if session:
            session.close()

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _missing(self, key: str) -> ObjectNotFound:
        """Names the whole path, as the original does."""
        error = ObjectNotFound(self._path(key))
        error.key = key
        return error


class _Writer:
    """A temporary file beside its target that becomes the object by `commit`, or vanishes by `discard`."""

    def __init__(self, storage: SshStorage, key: str, moved: Callable[[], None] | None) -> None:
        self._storage = storage
        self._key = key
        self._moved = moved
        self._path = storage._path(key)
        folder, name = posixpath.split(self._path)
        if is_temporary(name):
            raise PermanentError(f"object name '{key}' is refused: it has the form of temporary names", key=key)
        self._folder = folder
        self._temporary = f"{folder}/{temporary_name(name)}"
        self._file: asyncssh.SFTPClientFile | None = None
        self._upload: Upload | None = None

    @property
    def count(self) -> int:
        """Bytes written so far."""
        return self._upload.count if self._upload else 0

    def _run(self, work: "Callable[[asyncssh.SFTPClient], Any]") -> Any:
        try:
            return self._storage._session.run(work, self._key, "store")
        except TransientError as error:
            # Protocol 3 has no code for a full disk, the server says only "Failure".
            import asyncssh

            if isinstance(error.__cause__, asyncssh.SFTPFailure) and self._is_full():
                raise NoSpace(
                    f"store '{self._key}' in {self._storage.description}: the server's disk is full",
                    key=self._key,
                    hint="free space on the server; nothing partial was left behind",
                ) from error
            raise

    def _is_full(self) -> bool:
        import asyncssh

        async def ask(client: asyncssh.SFTPClient) -> bool:
            try:
                found = await client.statvfs(self._folder)
            except asyncssh.SFTPError:
                return False
            return found.bavail * found.frsize < 1 << 20 or (found.files > 0 and found.favail == 0)

        return self._storage._session.run(ask, self._key, "store")

    def write(self, piece: bytes) -> None:
        self._run(lambda client: self._write(client, piece))

    async def _write(self, client: "asyncssh.SFTPClient", piece: bytes) -> None:
        await (await self._opened(client)).write(piece)

    async def _opened(self, client: "asyncssh.SFTPClient") -> "Upload":
        """The upload; opened by the first use, with the folders that it needs."""
        if self._upload is None:
            import asyncssh

            from walg_storage_ssh import directory
            from walg_storage_ssh.failures import ABSENT
            from walg_storage_ssh.transfer import Upload

            flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL
            for attempt in range(_ATTEMPTS):
                try:
                    if attempt:
                        await directory.make(client, self._folder)
                    self._file = await client.open(self._temporary, flags, encoding=None)
                    break
                except ABSENT:
                    # No folder yet, or a delete has just removed it as empty, or one above it.
                    if attempt == _ATTEMPTS - 1:
                        raise
                except asyncssh.SFTPFailure:
                    if attempt or await directory.is_dir(client, self._folder):
                        raise
            assert self._file is not None
            self._upload = Upload(self._file, self._moved)
        return self._upload

    def copy(self, source: str) -> None:
        async def work(client: "asyncssh.SFTPClient") -> None:
            await self._opened(client)
            assert self._file is not None
            await client.remote_copy(source, self._file)

        self._run(work)

    def commit(self, if_absent: bool) -> None:
        self._run(lambda client: self._commit(client, if_absent))

    async def _commit(self, client: "asyncssh.SFTPClient", if_absent: bool) -> None:
        import asyncssh

        from walg_storage_ssh import directory

        upload = await self._opened(client)
        await upload.flush()
        assert self._file is not None
        try:
            await self._file.fsync()
        except asyncssh.SFTPOpUnsupported:
            pass
        await self._file.close()
        self._file = None
        await self._rename(client, if_absent)
        await directory.sync(client, self._folder)

    async def _rename(self, client: "asyncssh.SFTPClient", if_absent: bool) -> None:
        """In one step where the server can; a server that cannot has a moment without the old object."""
        import asyncssh

        from walg_storage_ssh import directory

        if not if_absent:
            try:
                await client.posix_rename(self._temporary, self._path)
                return
            except asyncssh.SFTPOpUnsupported:
                pass
            except asyncssh.SFTPFailure as error:
                if await directory.is_dir(client, self._path):
                    raise PermanentError(f"put '{self._key}': a folder of that name exists", key=self._key) from error
                raise
        try:
            # Protocol 3: never replaces anything.
            await client.rename(self._temporary, self._path)
        except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
            if not await client.exists(self._path):
                raise
            if if_absent:
                raise ObjectExists(self._key) from None
            await client.remove(self._path)
            await client.rename(self._temporary, self._path)

    def discard(self) -> None:
        """Removes the temporary file, and the folders that are empty now. Never raises a storage's failure."""
        from walg_core.errors import StorageError

        from walg_storage_ssh import directory
        from walg_storage_ssh.transfer import close_quietly

        async def work(client: "asyncssh.SFTPClient") -> None:
            if self._upload:
                self._upload.cancel()
            if self._file:
                await close_quietly(self._file)
            await directory.unlink(client, [self._temporary])
            await directory.remove_empty(client, self._folder, self._storage._root)

        try:
            self._storage._session.run(work, self._key, "clean up after")
        except StorageError as error:
            from walg_core.observe import log

            log.warning(f"a temporary file may stay behind, {self._temporary}: {error}")


async def _can_copy(client: "asyncssh.SFTPClient") -> bool:
    return client.supports_remote_copy


def _nanoseconds(attributes: "asyncssh.SFTPAttrs") -> int:
    return (attributes.mtime or 0) * 1_000_000_000 + (attributes.mtime_ns or 0)


def _describe(key: str, attributes: "asyncssh.SFTPAttrs") -> ObjectInfo:
    nanoseconds = _nanoseconds(attributes)
    return ObjectInfo(key, attributes.size or 0, nanoseconds / 1e9, nanoseconds=nanoseconds)
