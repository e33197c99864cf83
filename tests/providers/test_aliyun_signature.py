"""How requests to Aliyun are signed: by its published example, and as its own client does."""

from __future__ import annotations

import json
import urllib.parse

import pytest
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest

from tests.vendors.aliyun_nls_vendor import (
    ACCESS_KEY_ID,
    SECRET,
    NlsHttpVendor,
)
from xiaozhi.providers.families.aliyun_nls import signed_query


def test_the_published_example_of_a_signature() -> None:
    parameters = {
        "AccessKeyId": "my_access_key_id",
        "Action": "CreateToken",
        "Version": "2019-02-28",
        "Timestamp": "2019-04-18T08:32:31Z",
        "Format": "JSON",
        "RegionId": "cn-shanghai",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": "b924c8c3-6d03-4c5d-ad36-d984d3116788",
    }
    query = signed_query(parameters, "my_access_key_secret")
    assert query.startswith("Signature=hHq4yNsPitlfDJ2L0nQPdugdEzM%3D&AccessKeyId=my_access_key_id&Action=CreateToken")


@pytest.mark.leaks("the vendor's client keeps its connection")
def test_the_vendors_own_client_signs_alike_and_is_admitted() -> None:
    with NlsHttpVendor() as http:
        request = CommonRequest()
        request.set_method("POST")
        request.set_domain(http.url.removeprefix("http://"))
        request.set_version("2019-02-28")
        request.set_action_name("CreateToken")
        request.add_query_param("Odd", "a b*c~d/ü")
        answer = json.loads(AcsClient(ACCESS_KEY_ID, SECRET, "cn-shanghai").do_action_with_exception(request))
        assert answer["Token"]["Id"] in http.tokens
        query = http.requests[0].path.partition("?")[2]
        given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        signature = given.pop("Signature")
        ours = urllib.parse.parse_qs(signed_query(given, SECRET, "POST"), keep_blank_values=True)
        assert ours["Signature"] == [signature]
        assert given["Odd"] == "a b*c~d/ü"
