"""Cases about names: odd but good ones come back unchanged, bad ones are refused before anything happens."""

from walg_core.errors import PermanentError, StorageError
from walg_core.pipeline.reader import BytesReader
from walg_core.storage.api import Storage
from walg_core.testing.conformance.frame import case, content, keys, raises, same, true

ODD = (
    "with space",
    " leading and trailing ",
    "percent%20and%2Fslash",
    "plus+plus",
    "amper&sand=equals",
    "question?mark",
    "hash#tag",
    "semi;colon,comma",
    "quotes'\"`",
    "brackets[x]{y}(z)<t>",
    "star*pipe|caret^",
    "at@sign:colon!",
    "dollar$HOME",
    "tilde~",
    ".hidden",
    "trailing.",
    "..three...dots",
    "-dash",
    "name.tmp",
    "UPPER and lower",
    "ünïcödé",
    "日本語/ファイル",
    "emoji-😀",
    "arabic-العربية",
)
REFUSED = (
    "",
    "/absolute",
    "../up",
    "a/../b",
    "..",
    ".",
    "a/./b",
    "double//slash",
    "trailing/",
    "nul\0byte",
    "new\nline",
    "tab\t",
    "delete\x7f",
    "back\\slash",
    "x" * 1025,
    "surrogate-\udc80",
)


class NamingCases:
    """`key_reserve` (bytes): what the storage itself puts before every key."""

    key_reserve = 0

    @case
    def test_odd_names(self, storage: Storage) -> None:
        for number, name in enumerate(ODD):
            storage.put_bytes(name, b"%d" % number)
        same(keys(storage), sorted(ODD, key=str.encode), "listing of odd names")
        for number, name in enumerate(ODD):
            same(content(storage, name), b"%d" % number, f"content of {name!r}")
            same(storage.stat(name).key, name, "key from stat")
        storage.delete(ODD)
        same(keys(storage), [], "listing after deleting odd names")

    @case
    def test_odd_folders(self, storage: Storage) -> None:
        for name in ODD:
            storage.put_bytes(f"{name}/object", name.encode())
        for name in ODD:
            same(keys(storage, f"{name}/"), [f"{name}/object"], f"listing of folder {name!r}")
        same(
            list(storage.list_dirs()),
            sorted({name.split("/")[0] + "/" for name in ODD}, key=str.encode),
            "odd folders",
        )

    @case
    def test_case_matters(self, storage: Storage) -> None:
        storage.put_bytes("Name", b"upper")
        storage.put_bytes("name", b"lower")
        same((content(storage, "Name"), content(storage, "name")), (b"upper", b"lower"), "names differing in case")

    @case
    def test_unicode_is_not_normalized(self, storage: Storage) -> None:
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        storage.put_bytes(composed, b"composed")
        storage.put_bytes(decomposed, b"decomposed")
        same(keys(storage), [decomposed, composed], "listing of two forms of one word")
        same(content(storage, composed), b"composed", "content")

    @case
    def test_long_names(self, storage: Storage) -> None:
        room = min(storage.capabilities.max_key_bytes, 1024) - self.key_reserve - len(getattr(storage, "prefix", ""))
        name = "/".join(["d" * 100] * 20)[:room].rstrip("/")
        storage.put_bytes(name, b"long")
        same((keys(storage), content(storage, name)), ([name], b"long"), f"a name of {len(name)} bytes")

    @case
    def test_long_component(self, storage: Storage) -> None:
        name = "f/" + "n" * 255
        storage.put_bytes(name, b"long")
        same((keys(storage), content(storage, name)), ([name], b"long"), "a component of 255 bytes")

    @case
    def test_bad_names_are_refused_by_put(self, storage: Storage) -> None:
        for name in REFUSED:
            with raises(PermanentError, f"put of {name[:40]!r}"):
                storage.put(name, BytesReader(b"x"))
        same(keys(storage), [], "listing after refused puts")

    @case
    def test_bad_names_are_refused_by_put_if_absent(self, storage: Storage) -> None:
        for name in REFUSED:
            with raises(PermanentError, f"put of {name[:40]!r}"):
                storage.put(name, BytesReader(b"x"), 1, True)

    @case
    def test_bad_names_are_refused_by_reads(self, storage: Storage) -> None:
        for name in REFUSED:
            with raises(PermanentError, f"stat of {name[:40]!r}"):
                storage.stat(name)
            with raises(PermanentError, f"open of {name[:40]!r}"):
                storage.open(name)

    @case
    def test_bad_names_are_refused_by_delete_and_copy(self, storage: Storage) -> None:
        storage.put_bytes("object", b"x")
        for name in REFUSED:
            with raises(PermanentError, f"delete of {name[:40]!r}"):
                storage.delete([name])
            with raises(PermanentError, f"copy to {name[:40]!r}"):
                storage.copy("object", name)
        same(keys(storage), ["object"], "listing after refused operations")

    @case
    def test_object_and_folder_of_one_name(self, storage: Storage) -> None:
        storage.put_bytes("name", b"object")
        if storage.capabilities.keys_may_nest:
            storage.put_bytes("name/below", b"below")
            same(keys(storage), ["name", "name/below"], "listing")
            same(list(storage.list_dirs()), ["name/"], "folders")
            same([info.key for info in storage.list_dir()], ["name"], "one level")
            storage.delete(["name"])
            same(keys(storage), ["name/below"], "listing after deleting the object")
            return
        with raises(StorageError, "an object below an object"):
            storage.put_bytes("name/below", b"below")
        same(content(storage, "name"), b"object", "the object that was there")

    @case
    def test_folder_then_object_of_one_name(self, storage: Storage) -> None:
        storage.put_bytes("name/below", b"below")
        if storage.capabilities.keys_may_nest:
            storage.put_bytes("name", b"object")
            same(content(storage, "name"), b"object", "the object")
        else:
            with raises(StorageError, "an object where a folder is"):
                storage.put_bytes("name", b"object")
        same(content(storage, "name/below"), b"below", "the object in the folder")

    @case
    def test_describes_itself(self, storage: Storage) -> None:
        true(storage.name, "the storage has no name")
        true(storage.description, "the storage does not describe itself")
        true(storage.identity(), "the storage has no identity")
        true(storage.capabilities.atomic_put, "the storage does not claim that a put is all or nothing")
