"""Times of Takeout's pages, in the languages that accounts have."""

from __future__ import annotations

import pytest

from pipeline.archive.importers.takeout_pages import read_cards, read_page_time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("Feb 3, 2026, 9:20:00 AM UTC", "2026-02-03T09:20:00Z"),
        ("Feb 3, 2026, 12:20:00 AM UTC", "2026-02-03T00:20:00Z"),
        ("Feb 3, 2026, 12:20:00 PM GMT", "2026-02-03T12:20:00Z"),
        ("Feb 3, 2026, 9:20:00\u202fPM PST", "2026-02-04T05:20:00Z"),
        ("3 Feb 2026, 09:20:00 GMT+05:30", "2026-02-03T03:50:00Z"),
        ("3. feb. 2026 10.20.00 CET", "2026-02-03T09:20:00Z"),
        ("03.10.2025, 09:20:00 MESZ", "2025-10-03T07:20:00Z"),
        ("03.02.2026 09.20.00 CET", "2026-02-03T08:20:00Z"),
        ("03/02/2026, 09:20:00 CET", "2026-02-03T08:20:00Z"),
        ("2/13/2026, 9:20:00 AM EST", "2026-02-13T14:20:00Z"),
        ("4/3/2026, 9:20:00 PM UTC", "2026-04-03T21:20:00Z"),
        ("4/3/2026, 9:20:00\u202fAM UTC", "2026-04-03T09:20:00Z"),
        ("13/3/2026, 9:20:00 AM UTC", "2026-03-13T09:20:00Z"),
        ("4/3/2026, 9:20:00 pm UTC", "2026-03-04T21:20:00Z"),
        ("4.3.2026, 9:20:00 AM UTC", "2026-03-04T09:20:00Z"),
        ("2026/02/03 9:20:00 JST", "2026-02-03T00:20:00Z"),
        ("2026年2月3日 GMT+8 下午9:20:00", "2026-02-03T13:20:00Z"),
        ("2026. 2. 3. 오전 9:20:00 KST", "2026-02-03T00:20:00Z"),
        ("2026. febr. 3. 9:20:00 CET", "2026-02-03T08:20:00Z"),
        ("3 фев. 2026 г., 09:20:00 MSK", "2026-02-03T06:20:00Z"),
        ("3 lut 2026, 09:20:00 CET", "2026-02-03T08:20:00Z"),
        ("3 Şub 2026 09:20:00 TRT", "2026-02-03T06:20:00Z"),
        ("3 marras 2026 klo 9.20.00 EET", "2026-11-03T07:20:00Z"),
        ("3 Φεβ 2026, 9:20:00 μ.μ. EET", "2026-02-03T19:20:00Z"),
        ("3 de feb. de 2026, 9:20:00 p. m. COT", "2026-02-04T02:20:00Z"),
        ("09:20:00 3 thg 2, 2026 GMT+7", "2026-02-03T02:20:00Z"),
        ("Feb 3, 2026, 9:20:00 AM XYZ", "2026-02-03T09:20:00"),  # of an unknown zone, which is told
        ("2026-02-03 09:20:00", "2026-02-03T09:20:00"),
        ("3. Okt. 2025, 09:20:00 MEZ", "2025-10-03T08:20:00Z"),
        ("3 févr. 2026, 09:20:00 CET", "2026-02-03T08:20:00Z"),
        ("3 dic 2026, 9:20:00 CET", "2026-12-03T08:20:00Z"),
        ("2026-02-03T09:20:00Z", "2026-02-03T09:20:00Z"),
        ("Feb 31, 2026, 9:20:00 AM UTC", None),
        ("no time", None),
    ],
)
def test_the_time_of_a_card_is_read_where_it_can_be(text, time):
    assert read_page_time(text) == time


def test_a_time_that_cannot_be_read_is_kept_as_it_was():
    content = '<div class="content-cell">Prompted hi<br>2026 Smarch 3 09:20:00<br><p>ho</p></div>'

    (item,) = read_cards(f'<div class="outer-cell">{content}</div>')

    assert item["title"] == "Prompted hi"
    assert item["unreadTime"] == "2026 Smarch 3 09:20:00"
    assert item["safeHtmlItem"] == [{"html": "<p>ho</p>"}]


def test_an_answer_may_stand_behind_the_time_without_a_break():
    prompt = 'Prompted <a href="https://gemini.example/app/abc">hi</a>'
    content = f"<div class='content-cell'>{prompt}<br>Apr 12, 2026, 3:34:31 PM EDT<p>ho</p>yes<br>no</div>"
    (item,) = read_cards(f'<div class="outer-cell">{content}</div>')

    assert item == {
        "header": "",
        "title": "Prompted hi",
        "titleUrl": "https://gemini.example/app/abc",
        "time": "2026-04-12T19:34:31Z",
        "safeHtmlItem": [{"html": "<p>ho</p>yes<br>no"}],
    }


def test_a_card_without_a_time_is_all_prompt():
    (item,) = read_cards('<div class="outer-cell"><div class="content-cell">Prompted hi<br>ho</div></div>')

    assert item == {"header": "", "title": "Prompted hi\nho"}
