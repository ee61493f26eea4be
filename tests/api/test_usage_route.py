from datetime import date

from factories import Hub

from gatehouse.inference.plans.usage import Figures, UsageKey


def test_everybody_sees_their_own_use_only(hub: Hub) -> None:
    ada, bob = hub.make_user("ada"), hub.make_user("bob")
    model = hub.make_repo(ada, "one")
    today, before = date(2026, 1, 1), date(2025, 11, 1)
    hub.services.usage.add(
        {
            UsageKey(today, ada.user.id, 0, 0, model.id): Figures(2, 1, 30, 40, 0.5),
            UsageKey(before, ada.user.id, 0, 0, model.id): Figures(1, 0, 3, 4, 0.5),
            UsageKey(today, bob.user.id, 0, 0, model.id): Figures(7, 0, 7, 7, 7.0),
        }
    )
    answer = hub.client.get("/api/usage", headers=ada.read)
    assert answer.json() == {
        "since": "2025-12-02",
        "usage": [
            {
                "day": "2026-01-01",
                "token": None,
                "billedTo": None,
                "model": "ada/one",
                "requests": 2,
                "cachedRequests": 1,
                "promptTokens": 30,
                "generatedTokens": 40,
                "seconds": 0.5,
            }
        ],
    }
    older = hub.client.get("/api/usage?since=2025-01-01", headers=ada.read)
    assert [row["day"] for row in older.json()["usage"]] == ["2025-11-01", "2026-01-01"]


def test_a_model_that_is_hidden_from_its_user_now_has_no_name(hub: Hub) -> None:
    ada, bob = hub.make_user("ada"), hub.make_user("bob")
    model = hub.make_repo(ada, "secret-name", private=True)
    key = UsageKey(date(2026, 1, 1), bob.user.id, 0, 0, model.id)
    hub.services.usage.add({key: Figures(1, 0, 1, 1, 0.5)})
    answer = hub.client.get("/api/usage", headers=bob.read)
    assert answer.json()["usage"][0]["model"] is None
    assert "secret" not in answer.text


def test_strangers_and_nonsense_are_refused(hub: Hub) -> None:
    ada = hub.make_user("ada")
    assert hub.client.get("/api/usage").status_code == 401
    assert hub.client.get("/api/usage?since=monday", headers=ada.read).status_code == 400
