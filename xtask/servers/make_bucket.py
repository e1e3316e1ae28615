"""Makes one bucket, or container, unless it is there, with nothing but the standard library.

    make_bucket.py s3|azure ENDPOINT BUCKET ACCESS_KEY SECRET_KEY REGION

Ends with 0 if the bucket is there afterwards; otherwise says what the server answered.
"""

import base64
import datetime
import hashlib
import hmac
import sys
import urllib.error
import urllib.parse
import urllib.request

LIMIT_S = 10


def main():
    platform, arguments = sys.argv[1], sys.argv[2:]
    try:
        status, answer = {"s3": s3, "azure": azure}[platform](*arguments)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    if status in (200, 201, 204, 409):
        return 0
    print(f"HTTP status {status}: {answer[:400]!r}", file=sys.stderr)
    return 1


def s3(endpoint, bucket, access_key, secret_key, region):
    host = urllib.parse.urlparse(endpoint).netloc
    now = datetime.datetime.now(datetime.timezone.utc)
    time, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    empty = hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    headers = f"host:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{time}\n"
    request = hashlib.sha256(f"PUT\n/{bucket}\n\n{headers}\n{names}\n{empty}".encode()).hexdigest()
    scope = f"{day}/{region}/s3/aws4_request"
    key = ("AWS4" + secret_key).encode()
    for word in (day, region, "s3", "aws4_request"):
        key = sign(key, word)
    signature = sign(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    sent = {"x-amz-date": time, "x-amz-content-sha256": empty, "Authorization": authorization}
    return put(f"{endpoint}/{bucket}", sent)


def azure(endpoint, container, account, key, _region):
    path = urllib.parse.urlparse(endpoint).path
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    version = "2023-11-03"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n"
    signed += f"/{account}{path}/{container}\nrestype:container"
    signature = base64.b64encode(sign(base64.b64decode(key), signed)).decode()
    sent = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Content-Type": "",
        "Authorization": f"SharedKey {account}:{signature}",
    }
    return put(f"{endpoint}/{container}?restype=container", sent)


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def put(url, headers):
    request = urllib.request.Request(url, data=b"", headers=headers | {"Content-Length": "0"}, method="PUT")
    # The machine's proxies are for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=LIMIT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


sys.exit(main())
