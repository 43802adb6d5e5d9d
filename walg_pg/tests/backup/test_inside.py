"""Tablespaces whose locations lie inside the data directory are stored once, and come back."""

from __future__ import annotations

from walg_pg.backup.walk import Walk
from walg_pg.cluster import Cluster

ROWS = "select count(*), md5(string_agg(v, ',' order by id)) from inside"


def test_a_tablespace_inside_the_data_directory(old_site) -> None:
    site = old_site
    place = site.data / "own spaces" / "one"
    place.mkdir(parents=True)
    site.cluster.own(place.parent)
    site.query(f"create tablespace own location '{place}'")
    try:
        site.query("create table inside tablespace own as select * from t where id <= 5000")
        path = site.query("select pg_relation_filepath('inside')")
        names = [site.push("--full")]
        site.query("update inside set v = v || '!' where id % 50 = 0; checkpoint")
        names.append(site.push(WALG_DELTA_MAX_STEPS="3"))
        expected = site.query(ROWS)
        files = [site.json(name, "files_metadata.json")["Files"] for name in names]
        inner = path.split("/", 2)[2]
        for listed in files:
            assert [name for name in listed if name.endswith(f"/{inner}")] == [f"/{path}"]
            assert "/own spaces/one" in listed
            assert not [name for name in listed if name.startswith("/own spaces/one/")]
        assert files[1][f"/{path}"]["IsIncremented"]
        oid = site.query("select oid from pg_tablespace where spcname = 'own'")
        assert site.json(names[1])["Spec"][oid]["loc"] == str(place)
        assert {found.name for found in Walk(str(site.data))} >= {f"/{path}", "/own spaces/one"}
        target = site.root / "restored-inside"
        site.wal_g("backup-fetch", str(target), names[1])
        (target / "recovery.signal").touch()
        settings = {"restore_command": f"cp {site.wal}/%f %p", "recovery_target": "immediate"}
        settings |= {"recovery_target_action": "promote", "fsync": "off", "archive_mode": "off"}
        with Cluster(target, binaries=site.cluster.binaries, settings=settings) as copy:
            copy.start(wait_for="promoted")
            assert copy.query(ROWS) == expected
            assert not list((target / "own spaces" / "one").iterdir())
    finally:
        site.query("drop table if exists inside")
        site.query("drop tablespace own")
