# ruff: noqa
# mypy: ignore-errors
"""In-memory Azure Blob endpoint: Shared Key signatures, block blobs, ranges, copy, listing, conditions; for tests only.

python -m walg_storage_azure.testing.server PORTFILE [CERT KEY]
"""

import base64, hashlib, hmac, os, re, ssl, sys, threading, time, uuid
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

ACC, KEY = (
    "devstoreaccount1",
    base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="),
)
C, S, lock = {}, {}, threading.Lock()  # container -> name -> blob ; (container, name) -> block id -> bytes


class E(Exception):
    def __init__(s, st, code):
        s.st, s.code = st, code


class H(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True

    def log_message(s, *a):
        pass

    def auth(s, u):
        h = {k.lower(): v.strip() for k, v in s.headers.items()}
        a = h.get("authorization", "")
        if not a.startswith("SharedKey "):
            raise E(403, "AuthorizationFailure")
        acc, sig = a[10:].split(":", 1)
        n = h.get("content-length", "")
        res = (
            "/"
            + ACC
            + u.path
            + "".join("\n%s:%s" % (k.lower(), v) for k, v in sorted(parse_qsl(u.query, keep_blank_values=True)))
        )
        sts = "\n".join(
            [s.command, h.get("content-encoding", ""), h.get("content-language", ""), "" if n == "0" else n]
            + [
                h.get(k, "")
                for k in (
                    "content-md5",
                    "content-type",
                    "date",
                    "if-modified-since",
                    "if-match",
                    "if-none-match",
                    "if-unmodified-since",
                    "range",
                )
            ]
        )
        sts += "\n" + "".join("%s:%s\n" % (k, h[k]) for k in sorted(h) if k.startswith("x-ms-")) + res
        if acc != ACC or not hmac.compare_digest(
            base64.b64encode(hmac.new(KEY, sts.encode(), hashlib.sha256).digest()).decode(), sig
        ):
            raise E(403, "AuthenticationFailed")

    def body(s):
        if s.headers.get("Transfer-Encoding", "").lower() == "chunked":
            o = b""
            while True:
                n = int(s.rfile.readline().split(b";")[0], 16)
                o += s.rfile.read(n)
                s.rfile.readline()
                if not n:
                    return o
        return s.rfile.read(int(s.headers.get("Content-Length") or 0))

    def out(s, st=200, data=b"", ct="application/xml", **h):
        s.send_response(st)
        s.send_header("x-ms-request-id", str(uuid.uuid4()))
        s.send_header("x-ms-version", s.headers.get("x-ms-version", "2021-12-02"))
        s.send_header("Content-Length", str(len(data)))
        if data:
            s.send_header("Content-Type", ct)
        for k, v in h.items():
            s.send_header(k.replace("_", "-"), v)
        s.end_headers()
        if s.command != "HEAD":
            s.wfile.write(data)

    def go(s):
        u = urlsplit(s.path)
        s.q = dict(parse_qsl(u.query, keep_blank_values=True))
        d = s.body()
        _, _, rest = unquote(u.path).lstrip("/").partition("/")
        s.c, _, s.b = rest.partition("/")
        try:
            s.auth(u)
            if s.headers.get("Content-MD5") and base64.b64decode(s.headers["Content-MD5"]) != hashlib.md5(d).digest():
                raise E(400, "Md5Mismatch")
            with lock:
                s.act(d)
        except E as e:
            s.out(
                e.st,
                (
                    '<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>' % (e.code, e.code)
                ).encode(),
                x_ms_error_code=e.code,
            )

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = go

    def put(s, data):
        old = C[s.c].get(s.b)
        if s.headers.get("If-None-Match") == "*" and old:
            raise E(409, "BlobAlreadyExists")
        if s.headers.get("If-Match") not in (None, "*") and (not old or old["etag"] != s.headers["If-Match"]):
            raise E(412, "ConditionNotMet")
        meta = {k: v for k, v in s.headers.items() if k.lower().startswith("x-ms-meta-")}
        C[s.c][s.b] = o = dict(
            data=data,
            etag='"0x%X"' % time.time_ns(),
            t=time.time(),
            meta=meta,
            tier=s.headers.get("x-ms-access-tier", "Hot"),
            ct=s.headers.get("x-ms-blob-content-type") or "application/octet-stream",
            md5=base64.b64encode(hashlib.md5(data).digest()).decode(),
        )
        S.pop((s.c, s.b), None)
        s.out(
            201,
            ETag=o["etag"],
            Last_Modified=formatdate(o["t"], usegmt=True),
            Content_MD5=o["md5"],
            x_ms_request_server_encrypted="true",
        )

    def act(s, d):
        m, q, c, b = s.command, s.q, s.c, s.b
        if q.get("restype") == "container" and q.get("comp") is None:
            if m == "PUT":
                if c in C:
                    raise E(409, "ContainerAlreadyExists")
                C[c] = {}
                return s.out(201, ETag='"0x1"', Last_Modified=formatdate(usegmt=True))
            if c not in C:
                raise E(404, "ContainerNotFound")
            if m == "DELETE":
                del C[c]
                return s.out(202)
            return s.out(ETag='"0x1"', Last_Modified=formatdate(usegmt=True))
        if not c:
            return s.out(200, b'<?xml version="1.0"?><StorageServiceProperties/>')
        if c not in C:
            raise E(404, "ContainerNotFound")
        if m == "POST" and q.get("comp") == "batch":
            boundary = re.search(r"boundary=([^;]+)", s.headers["Content-Type"])[1].encode()
            answer = b""
            for part in d.split(b"--" + boundary)[1:-1]:
                number = re.search(rb"(?i)content-id: *(\S+)", part)
                path = re.search(rb"DELETE (\S+) HTTP", part)[1].decode()
                name = unquote(urlsplit(path).path).lstrip("/").partition("/")[2].partition("/")[2]
                found = C[c].pop(name, None)
                status = b"202 Accepted" if found else b"404 The specified blob does not exist."
                extra = b"" if found else b"x-ms-error-code: BlobNotFound\r\n"
                answer += b"--batch\r\nContent-Type: application/http\r\n"
                answer += b"Content-ID: " + number[1] + b"\r\n" if number else b""
                answer += b"\r\nHTTP/1.1 " + status + b"\r\n" + extra + b"x-ms-request-id: 1\r\n\r\n"
            return s.out(202, answer + b"--batch--\r\n", "multipart/mixed; boundary=batch")
        if q.get("comp") == "list" and not b:
            p, de, n, after = (
                q.get("prefix", ""),
                q.get("delimiter", ""),
                int(q.get("maxresults") or 5000),
                q.get("marker", ""),
            )
            o, ps, cnt, nxt = "", [], 0, ""
            for k in sorted(C[c]):
                if not k.startswith(p) or k < after:
                    continue
                g = p + k[len(p) :].split(de)[0] + de if de and de in k[len(p) :] else None
                if g and g in ps:
                    continue
                if cnt >= n:
                    nxt = k
                    break
                cnt += 1
                x = C[c][k]
                if g:
                    ps.append(g)
                    o += "<BlobPrefix><Name>%s</Name></BlobPrefix>" % escape(g)
                    continue
                o += (
                    "<Blob><Name>%s</Name><Properties><Last-Modified>%s</Last-Modified><Etag>%s</Etag><Content-Length>%d</Content-Length><Content-Type>%s</Content-Type><Content-MD5>%s</Content-MD5><BlobType>BlockBlob</BlobType><AccessTier>%s</AccessTier></Properties></Blob>"
                    % (
                        escape(k),
                        formatdate(x["t"], usegmt=True),
                        x["etag"].strip('"'),
                        len(x["data"]),
                        x["ct"],
                        x["md5"],
                        x["tier"],
                    )
                )
            return s.out(
                200,
                (
                    '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="%s"><Prefix>%s</Prefix><Blobs>%s</Blobs><NextMarker>%s</NextMarker></EnumerationResults>'
                    % (c, escape(p), o, escape(nxt))
                ).encode(),
            )
        st = S.setdefault((c, b), {}) if q.get("comp") in ("block", "blocklist") else None
        if m == "PUT" and q.get("comp") == "block":
            if st and len(next(iter(st))) != len(q["blockid"]):
                raise E(400, "InvalidBlobOrBlock")
            st[q["blockid"]] = d
            return s.out(201, x_ms_request_server_encrypted="true")
        if m == "PUT" and q.get("comp") == "blocklist":
            ids = [x.text for x in ET.fromstring(d)]
            old = C[c].get(b, {}).get("blocks", {})
            src = {**old, **st}
            if any(i not in src for i in ids):
                raise E(400, "InvalidBlockList")
            s.put(b"".join(src[i] for i in ids))
            C[c][b]["blocks"] = {i: src[i] for i in ids}
            return
        if m == "GET" and q.get("comp") == "blocklist":
            f = lambda t, z: (
                "<%s>%s</%s>"
                % (t, "".join("<Block><Name>%s</Name><Size>%d</Size></Block>" % (i, len(v)) for i, v in z.items()), t)
            )
            return s.out(
                200,
                (
                    '<?xml version="1.0"?><BlockList>%s%s</BlockList>'
                    % (f("CommittedBlocks", C[c].get(b, {}).get("blocks", {})), f("UncommittedBlocks", st))
                ).encode(),
            )
        if m == "PUT" and s.headers.get("x-ms-copy-source"):
            sc, _, sb = (
                unquote(urlsplit(s.headers["x-ms-copy-source"]).path).lstrip("/").partition("/")[2].partition("/")
            )
            if sb not in C.get(sc, {}):
                raise E(404, "CannotVerifyCopySource")
            C[c][b] = dict(C[sc][sb], t=time.time())
            return s.out(
                202,
                ETag=C[c][b]["etag"],
                Last_Modified=formatdate(usegmt=True),
                x_ms_copy_id=str(uuid.uuid4()),
                x_ms_copy_status="success",
            )
        if m == "PUT" and q.get("comp") is None:
            return s.put(d)
        if b not in C[c]:
            raise E(404, "BlobNotFound")
        o = C[c][b]
        if m == "DELETE":
            del C[c][b]
            return s.out(202)
        if m == "PUT":
            return s.out()  # metadata, tier, properties
        h = dict(
            ETag=o["etag"],
            Last_Modified=formatdate(o["t"], usegmt=True),
            x_ms_blob_type="BlockBlob",
            x_ms_access_tier=o["tier"],
            x_ms_server_encrypted="true",
            Accept_Ranges="bytes",
            **{k.replace("-", "_"): v for k, v in o["meta"].items()},
        )
        data, r = (
            o["data"],
            re.fullmatch(r"bytes=(\d+)-(\d*)", s.headers.get("x-ms-range") or s.headers.get("Range") or ""),
        )
        if s.headers.get("If-Match") not in (None, "*", o["etag"]):
            raise E(412, "ConditionNotMet")
        if r:
            a, z = int(r[1]), min(int(r[2] or len(data)), len(data) - 1)
            if a >= len(data):
                raise E(416, "InvalidRange")
            if s.headers.get("x-ms-range-get-content-md5") == "true":
                h["Content_MD5"] = base64.b64encode(hashlib.md5(data[a : z + 1]).digest()).decode()
            return s.out(
                206,
                data[a : z + 1],
                o["ct"],
                Content_Range="bytes %d-%d/%d" % (a, z, len(data)),
                x_ms_blob_content_md5=o["md5"],
                **h,
            )
        s.out(200, data, o["ct"], Content_MD5=o["md5"], **h)


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer.daemon_threads = True
    srv = ThreadingHTTPServer(("127.0.0.1", 0), H)
    if len(sys.argv) > 3:
        x = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        x.load_cert_chain(*sys.argv[2:4])
        srv.socket = x.wrap_socket(srv.socket, server_side=True)
    C["backups"] = {}
    C["container"] = {}
    with open(sys.argv[1] + ".new", "w") as port:
        port.write(str(srv.server_port))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    srv.serve_forever()
