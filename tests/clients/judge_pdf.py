"""What pyHanko, pdfluent and qpdf (through pikepdf) say of a sealed PDF/A, as one JSON object.

    python judge_pdf.py FILE.pdf --trust ROOT.pem [--trust TSA-ROOT.pem]

`seal`: pyHanko's verdict on the one signature. `pdfa`: the level that the file claims and what pdfluent
finds against it. pdfluent takes hexadecimal digits of text strings for character codes and then misses them in
a font's CIDSet; such a finding is dropped when qpdf's reading of the same page shows every code that is
used to be in the set, and kept otherwise.
"""

import argparse
import asyncio
import json
import re

import pdfluent
import pikepdf
from pyhanko.keys import load_cert_from_pemder
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import async_validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

CID_SET = re.compile(r"CID 0x[0-9a-f]{4} used in content stream but absent from CIDSet", re.IGNORECASE)


def codes_by_font(page):
    """The two-octet codes that a page shows, by the name of the font resource."""
    codes, font = {}, None
    for operands, operator in pikepdf.parse_content_stream(page):
        if str(operator) == "Tf":
            font = str(operands[0])
        elif str(operator) in ("Tj", "TJ"):
            strings = operands[0] if str(operator) == "TJ" else [operands[0]]
            for string in strings:
                if isinstance(string, pikepdf.String):
                    octets = bytes(string)
                    pairs = zip(octets[::2], octets[1::2], strict=True)
                    codes.setdefault(font, set()).update(high << 8 | low for high, low in pairs)
    return codes


def cid_sets_are_whole(path):
    with pikepdf.open(path) as pdf:
        for page in pdf.pages:
            for font, codes in codes_by_font(page).items():
                resource = page.Resources.Font[font]
                assert resource.Encoding == "/Identity-H"
                octets = resource.DescendantFonts[0].FontDescriptor.CIDSet.read_bytes()
                if any(code >> 3 >= len(octets) or not octets[code >> 3] >> (7 - code % 8) & 1 for code in codes):
                    return False
    return True


def pdfa(path):
    report = pdfluent.validate_pdfa(path)
    findings = [f"{issue.rule}: {issue.message} ({issue.location})" for issue in report.issues]
    if cid_sets_are_whole(path):
        findings = [finding for finding in findings if not CID_SET.search(finding)]
    return {"level": report.pdfa_level, "findings": findings}


async def seal(path, roots):
    context = ValidationContext(trust_roots=[load_cert_from_pemder(root) for root in roots], revocation_mode="soft-fail")
    with open(path, "rb") as file:
        signatures = PdfFileReader(file).embedded_regular_signatures
        assert len(signatures) == 1, f"{len(signatures)} signatures"
        status = await async_validate_pdf_signature(signatures[0], context)
    stamp = status.timestamp_validity
    return {
        "intact": status.intact,
        "valid": status.valid,
        "trusted": status.trusted,
        "coverage": status.coverage.name,
        "modification": status.modification_level.name,
        "bottom_line": status.bottom_line,
        "claimed": status.signer_reported_dt.isoformat(),
        "timestamp": stamp and {"valid": stamp.valid, "intact": stamp.intact, "trusted": stamp.trusted, "time": stamp.timestamp.isoformat()},
    }


parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("--trust", action="append", default=[])
arguments = parser.parse_args()
print(json.dumps({"seal": asyncio.run(seal(arguments.file, arguments.trust)), "pdfa": pdfa(arguments.file)}))
