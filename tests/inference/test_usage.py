from datetime import date

from factories import Hub

from gatehouse.core.ids import RepoId
from gatehouse.identity.permissions import TokenRole
from gatehouse.inference.plans.usage import Figures, UsageKey

MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)


def test_lines_have_names_and_can_be_chosen(hub: Hub) -> None:
    usage = hub.services.usage
    ada, bob = hub.make_user("ada"), hub.make_user("bob")
    hub.make_organization("acme", ada)
    acme = hub.services.organizations.by_name("acme").id
    one, two = hub.make_repo(ada, "one"), hub.make_repo(ada, "two")
    token = hub.services.tokens.create(ada.user.id, "laptop", TokenRole.READ).token.id
    usage.add(
        {
            UsageKey(TUESDAY, ada.user.id, token, acme, one.id): Figures(2, 1, 30, 40, 0.5),
            UsageKey(MONDAY, bob.user.id, 0, 0, two.id): Figures(1, 0, 3, 4, 0.25),
            UsageKey(TUESDAY, 0, 0, 0, 999): Figures(5, 0, 0, 0, 0.0),
        }
    )
    lines = usage.lines()
    assert [line.day for line in lines] == [MONDAY, TUESDAY, TUESDAY]
    (of_ada,) = usage.lines(user_id=ada.user.id)
    assert (of_ada.user, of_ada.token, of_ada.organization, of_ada.model) == (
        *("ada", "laptop", "acme"),
        "ada/one",
    )
    assert of_ada.figures == Figures(2, 1, 30, 40, 0.5)
    (of_two,) = usage.lines(repository_id=two.id)
    assert (of_two.user, of_two.token, of_two.organization) == ("bob", None, None)
    assert len(usage.lines(since=TUESDAY)) == 2
    (nobody,) = [line for line in usage.lines() if line.user is None]
    assert nobody.model is None


def test_a_renamed_model_keeps_its_rows(hub: Hub) -> None:
    ada = hub.make_user("ada")
    model = hub.make_repo(ada, "one")
    key = UsageKey(MONDAY, ada.user.id, 0, 0, model.id)
    hub.services.usage.add({key: Figures(1, 0, 1, 1, 0.5)})
    target = RepoId("ada", "other")
    hub.services.repositories.move(ada.actor, model, target)
    hub.services.usage.add({key: Figures(1, 0, 1, 1, 0.5)})
    (line,) = hub.services.usage.lines()
    assert (line.model, line.figures) == ("ada/other", Figures(2, 0, 2, 2, 1.0))
