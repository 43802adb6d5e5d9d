"""Choosing, marking, deleting, purging and copying backups of any engine, on the in-memory storage."""

import json

import pytest
from walg_core.backups import catalog, copying, deletion, listing, marking, retention, selection, times
from walg_core.backups.deletion import Candidate
from walg_core.backups.sentinels import Document, SentinelForm, load_all
from walg_core.errors import UsageError, WalgError
from walg_core.storage.memory import MemoryStorage

FORM = SentinelForm(parent="IncrementFrom", base="IncrementFullName")
DAY = 86400 * times.SECOND
START = times.parse("2024-01-01T00:00:00Z")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[MemoryStorage, Clock]:
    """The worked example of spec/fdb-etcd.md 9.1: three backups, the second permanent, four logs."""
    clock = Clock()
    storage = MemoryStorage(clock=clock)

    def put(key: str, at: str, body: bytes = b"x") -> None:
        clock.now = times.parse(at) / times.SECOND
        storage.put_bytes(key, body)

    for day in (1, 2, 3):
        name = f"stream_2024010{day}T000000Z"
        put(f"basebackups_005/{name}/stream.lz4", f"2024-01-0{day}T00:09:00Z")
        sentinel = {"StartLocalTime": f"2024-01-0{day}T00:00:00Z", "IsPermanent": day == 2, "UserData": {"day": day}}
        put(catalog.sentinel_key(name), f"2024-01-0{day}T00:10:00Z", json.dumps(sentinel).encode())
    for number, at in enumerate(("01-01T12:00", "01-02T23:59", "01-03T00:05", "01-03T00:20"), 1):
        put(f"wal_005/w{number}.lz4", f"2024-{at}:00Z")
    return storage, clock


def candidates(storage: MemoryStorage) -> list[Candidate]:
    return [
        Candidate(b.name, b.entry.order, b.start_ns, b.permanent, not b.parent, b.parent, b.base)
        for b in load_all(storage, FORM)
    ]


def doomed(plan: deletion.Plan) -> set[str]:
    return {info.key.removeprefix("basebackups_005/").partition("_backup")[0].partition("/")[0]
            if info.key.startswith("base") else info.key[8:10] for info in plan.doomed}  # fmt: skip


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, {"stream_20240101T000000Z", "w1", "w2"}), (2, {"stream_20240101T000000Z", "w1"}), (3, set())],
)
def test_retain(count: int, expected: set[str]) -> None:
    storage, _ = make()
    backups = candidates(storage)
    target = deletion.target_retain(backups, "", count)
    assert target
    plan = deletion.plan_older(storage, target, backups, scopes=("basebackups_005/", "wal_005/"))
    # w3 was archived while the kept backup was made: unlike the original, it stays. w2 is older than its beginning.
    assert doomed(plan) == expected
    assert all("permanent" in reason for reason in plan.spared.values())


def test_retain_more_than_there_are() -> None:
    assert deletion.target_retain(candidates(make()[0]), "", 4) is None


def test_before() -> None:
    backups = candidates(make()[0])
    assert deletion.target_before(backups, "", "stream_20240103").name == "stream_20240103T000000Z"  # type: ignore[union-attr]
    found = deletion.target_before(backups, "", "2024-01-01T12:00:00Z")
    assert found
    assert found.name == "stream_20240102T000000Z"
    assert deletion.target_before(backups, "", "2024-02-01T00:00:00Z") is None
    with pytest.raises(catalog.NoBackups, match="not found"):
        deletion.target_before(backups, "", "stream_2025")
    with pytest.raises(UsageError, match="future"):
        deletion.target_before(backups, "", "2999-01-01T00:00:00Z")


def test_retain_after_takes_the_older() -> None:
    backups = candidates(make()[0])
    found = deletion.target_retain_after(backups, "", 1, "2024-01-02T00:00:00Z")
    assert found
    assert found.name == "stream_20240102T000000Z"
    found = deletion.target_retain_after(backups, "", 9, "stream_20240103")
    assert found
    assert found.name == "stream_20240103T000000Z"


@pytest.mark.parametrize("words", [["FULL", "x"], ["EVERY", "x"], [], ["a", "b", "c"]])
def test_before_arguments(words: list[str]) -> None:
    with pytest.raises(UsageError):
        deletion.before_arguments(words)


@pytest.mark.parametrize("words", [[], ["0"], ["x"], ["FUL", "3"], ["FULL", "3", "x"], ["-1"]])
def test_retain_arguments(words: list[str]) -> None:
    with pytest.raises(UsageError):
        deletion.retain_arguments(words)


def chain() -> list[Candidate]:
    full = Candidate("a", (1,), 1)
    return [
        full,
        Candidate("b", (2,), 2, full=False, parent="a", base="a"),
        Candidate("c", (3,), 3, full=False, parent="b", base="a"),
        Candidate("d", (4,), 4, full=False, parent="a", base="a"),
        Candidate("e", (5,), 5),
    ]


def test_dependants() -> None:
    backups = chain()
    assert [b.name for b in deletion.dependants(backups, backups[1], family=False)] == ["b", "c"]
    assert [b.name for b in deletion.dependants(backups, backups[1], family=True)] == ["a", "b", "c", "d"]


def test_increments_as_targets() -> None:
    backups = chain()
    target = deletion.target_retain(backups, "", 2)
    assert target
    assert target.name == "d"
    with pytest.raises(WalgError, match="FIND_FULL"):
        deletion.plan_older(MemoryStorage(), target, backups, scopes=("basebackups_005/",))
    assert deletion.target_retain(backups, "FIND_FULL", 2) == backups[0]
    assert deletion.target_retain(backups, "FULL", 2) == backups[0]
    assert deletion.target_before(backups, "FIND_FULL", "c") == backups[0]


def test_permanent_backups_stay() -> None:
    storage, _ = make()
    backups = candidates(storage)
    with pytest.raises(WalgError, match="Unable to delete permanent backup"):
        deletion.plan_backups(storage, [backups[1]])
    with pytest.raises(WalgError, match="Found permanent"):
        deletion.plan_everything(storage, backups, force=False, scopes=("",))
    assert len(deletion.plan_everything(storage, backups, force=True, scopes=("",)).doomed) == 10


def test_what_a_younger_increment_builds_on_stays() -> None:
    """Chains overlap where an increment was made on an older full backup than the last (WALG_DELTA_FROM_NAME)."""
    storage = MemoryStorage()
    names = [f"stream_2024010{day}T000000Z" for day in range(1, 6)]
    parents = ["", names[0], "", "", names[1]]
    for name in names:
        storage.put_bytes(f"basebackups_005/{name}/stream.br", b"x")
    backups = [
        Candidate(name, (at,), at, full=not parent, parent=parent)
        for at, (name, parent) in enumerate(zip(names, parents, strict=True))
    ]
    plan = deletion.plan_older(storage, backups[3], backups, scopes=("basebackups_005/",))
    assert [info.key.split("/")[1] for info in plan.doomed] == [names[2]]
    assert set(plan.spared.values()) == {
        f"backup {names[4]} builds on {names[1]}",
        f"backup {names[1]} builds on {names[0]}",
    }


def test_only_confirmed_deletions_happen() -> None:
    storage, _ = make()
    plan = deletion.plan_backups(storage, [candidates(storage)[0]])
    assert deletion.carry_out(lambda: plan, confirm=False) == 2
    assert len(list(storage.list())) == 10
    deletion.carry_out(lambda: plan, confirm=True)
    assert [b.name[7:15] for b in catalog.list_backups(storage)] == ["20240102", "20240103"]


def test_garbage() -> None:
    storage, _ = make()
    storage.put_bytes("basebackups_005/stream_20240101T010000Z/stream.br", b"left")
    plan = deletion.plan_garbage(storage, candidates(storage))
    assert [info.key for info in plan.doomed] == ["basebackups_005/stream_20240101T010000Z/stream.br"]


@pytest.mark.parametrize(
    ("count", "after", "kept"),
    [(1, None, "AD"), (None, 25, "ACD"), (3, 99, "ABCD"), (None, None, "ABCD"), (0, None, "A"), (0, 25, "ACD")],
)
def test_retention(count: int | None, after: int | None, kept: str) -> None:
    backups = [Candidate(name, (at,), at, name == "A") for name, at in zip("ABCD", (10, 20, 30, 40), strict=True)]
    _, retained = retention.split(backups, count=count, after_ns=after)
    assert "".join(sorted(b.name for b in retained)) == kept


def test_marking_keeps_unknown_keys_and_the_order_of_backups() -> None:
    storage, clock = make()
    clock.now += 99999
    name = "stream_20240101T000000Z"
    key = catalog.sentinel_key(name)
    storage.put_bytes(key, b'{"startlocaltime":"2024-01-01T00:00:00Z","Extra":[1],"ispermanent":false,"Z":2}')
    assert marking.mark(storage, name, FORM, permanent=True) == [name]
    assert storage.get(key) == b'{"startlocaltime":"2024-01-01T00:00:00Z","Extra":[1],"ispermanent":true,"Z":2}'
    assert catalog.latest(storage).name == "stream_20240103T000000Z"
    assert marking.mark(storage, name, FORM, permanent=True) == []
    with pytest.raises(catalog.BackupNotFound):
        marking.mark(storage, "LATEST", FORM, permanent=True)


def test_marking_a_chain() -> None:
    storage = MemoryStorage()
    for name, parent in (("a", ""), ("b", "a"), ("c", "b")):
        storage.put_bytes(catalog.sentinel_key(name), json.dumps({"IncrementFrom": parent}).encode())
    assert marking.mark(storage, "c", FORM, permanent=True) == ["a", "b", "c"]
    with pytest.raises(WalgError, match="permanent increment"):
        marking.mark(storage, "b", FORM, permanent=False)
    assert marking.mark(storage, "c", FORM, permanent=False) == ["c"]


def test_selection() -> None:
    storage, _ = make()
    read = selection.by_form(FORM)
    assert selection.select([storage], "LATEST", "", read)[1].name == "stream_20240103T000000Z"
    assert selection.select([storage], "", '{"day": 2.0}', read)[1].name == "stream_20240102T000000Z"
    for name, data in (("a", "1"), ("", "")):
        with pytest.raises(UsageError):
            selection.select([storage], name, data, read)
    with pytest.raises(catalog.NoBackups):
        selection.select([storage], "", '{"day": 7}', read)
    with pytest.raises(UsageError, match="not valid JSON"):
        selection.select([storage], "", "nightly", read)


def test_documents_read_as_the_original_does() -> None:
    document = Document({"a": 1, "A": 2, "Flag": "true", "T": "0001-01-01T00:00:00Z", "n": None})
    assert document.get("x", 7) == 7
    assert not document.flag("flag")
    assert document.time("t") is None
    assert document.number("N") == 0


def test_copy_is_resumable_and_puts_sentinels_last() -> None:
    source, _ = make()
    order: list[str] = []

    class Noting(MemoryStorage):
        def put(self, key, body, size=None, if_absent=False):  # type: ignore[no-untyped-def]
            order.append(key)
            return super().put(key, body, size, if_absent)

    destination = Noting()
    plan = copying.entries(source, copying.choose(source, ""))
    assert copying.execute(source, destination, plan) == 6
    assert all(key.endswith("sentinel.json") for key in order[3:])
    assert copying.execute(source, destination, plan) == 0
    destination.put_bytes(plan[0].target, b"longer than it was")
    with pytest.raises(WalgError, match="conflicts with source"):
        copying.execute(source, destination, plan)


def test_default_list() -> None:
    storage, _ = make()
    text = listing.as_table(catalog.list_backups(storage))
    assert text.splitlines()[0] == "backup_name             modified             wal_file_name            storage_name"
    assert text.splitlines()[1].startswith("stream_20240101T000000Z 2024-01-01T")
    assert [row["backup_name"][7:15] for row in json.loads(listing.as_json(catalog.list_backups(storage)))] == [
        "20240101",
        "20240102",
        "20240103",
    ]
    assert listing.as_table([]) == ""
    assert listing.as_json([]) == "[]"
