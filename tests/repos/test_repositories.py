"""Names, settings and moves of repositories."""

import pytest
from factories import Hub

from gatehouse.core.errors import Forbidden, GatehouseError, Invalid
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.identity.actors import ANONYMOUS, Actor, OrganizationRole
from gatehouse.identity.permissions import Permission
from gatehouse.repos.errors import RepoExists, RepoMoved
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Gate, Visibility

_MODEL = RepoKind.MODEL
_METADATA = Permission.REPO_METADATA


def test_a_new_repository_has_a_first_commit(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "model")
    assert [file.path for file in hub.services.files.tree(repository, hub.head(repository))] == [
        ".gitattributes"
    ]


def test_names_are_found_in_any_case_and_keep_their_own(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    hub.make_repo(olivia, "Model")
    found = hub.services.repositories.require(
        ANONYMOUS, _MODEL, RepoId("OLIVIA", "mODEL"), _METADATA
    )
    assert str(found.repo_id) == "olivia/Model"


def test_a_name_is_taken_in_any_case_but_only_for_one_kind(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    hub.make_repo(olivia, "model")
    with pytest.raises(RepoExists):
        hub.make_repo(olivia, "MODEL")
    hub.make_repo(olivia, "model", kind=RepoKind.DATASET)


def test_a_hidden_repository_and_none_at_all_get_the_same_answer(hub: Hub) -> None:
    olivia, mallory = hub.make_user("olivia"), hub.make_user("mallory")
    hub.make_repo(olivia, "Secret", private=True)
    for actor in (ANONYMOUS, mallory.actor):
        answers = []
        for name in ("SECRET", "ABSENT"):
            with pytest.raises(GatehouseError) as caught:
                hub.services.repositories.require(actor, _MODEL, RepoId("OLIVIA", name), _METADATA)
            answers.append((type(caught.value), caught.value.message.replace(name, "NAME")))
        assert answers[0] == answers[1]


def test_the_old_name_of_a_hidden_repository_does_not_tell_the_new_one(hub: Hub) -> None:
    olivia, mallory = hub.make_user("olivia"), hub.make_user("mallory")
    secret = hub.make_repo(olivia, "old", private=True)
    hub.services.repositories.move(olivia.actor, secret, RepoId("olivia", "new"))
    for actor in (ANONYMOUS, mallory.actor):
        with pytest.raises(GatehouseError) as caught:
            hub.services.repositories.require(actor, _MODEL, RepoId("olivia", "old"), _METADATA)
        assert not isinstance(caught.value, RepoMoved)
        assert "new" not in caught.value.message


def test_settings_that_are_left_out_stay_as_they_are_by_now(hub: Hub) -> None:
    """Two changes at once: neither takes the other back."""
    olivia = hub.make_user("olivia")
    seen_by_both = hub.make_repo(olivia, "model")
    repositories = hub.services.repositories
    repositories.change_settings(
        olivia.actor, seen_by_both, SettingsChange(visibility=Visibility.PRIVATE)
    )
    changed = repositories.change_settings(
        olivia.actor, seen_by_both, SettingsChange(gate=Gate.MANUAL)
    )
    assert changed.is_private
    assert changed.gate is Gate.MANUAL


def test_settings_and_moves_count_the_generation_up(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "model")
    repositories = hub.services.repositories
    changed = repositories.change_settings(
        olivia.actor, repository, SettingsChange(visibility=Visibility.PRIVATE)
    )
    moved = repositories.move(olivia.actor, changed, RepoId("olivia", "other"))
    assert repository.generation < changed.generation < moved.generation


def test_a_moved_repository_leads_from_its_old_name(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "old")
    repositories = hub.services.repositories
    repositories.move(olivia.actor, repository, RepoId("olivia", "new"))
    with pytest.raises(RepoMoved) as caught:
        repositories.require(ANONYMOUS, _MODEL, RepoId("olivia", "OLD"), _METADATA)
    assert str(caught.value.new) == "olivia/new"


def test_an_old_name_can_be_taken_again_by_creating_and_by_moving(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repositories = hub.services.repositories
    first = hub.make_repo(olivia, "one")
    repositories.move(olivia.actor, first, RepoId("olivia", "two"))
    second = hub.make_repo(olivia, "one")
    assert repositories.require(ANONYMOUS, _MODEL, second.repo_id, _METADATA).id == second.id
    repositories.move(olivia.actor, second, RepoId("olivia", "three"))
    # `one` is a redirect now; whoever owns the namespace may still use the name.
    moved = repositories.move(olivia.actor, repositories.by_id(first.id) or first, first.repo_id)
    assert repositories.require(ANONYMOUS, _MODEL, RepoId("olivia", "one"), _METADATA).id == (
        moved.id
    )


def test_a_move_to_a_taken_name_changes_nothing(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    hub.make_repo(olivia, "taken")
    repository = hub.make_repo(olivia, "model")
    before = hub.state()
    with pytest.raises(RepoExists):
        hub.services.repositories.move(olivia.actor, repository, RepoId("olivia", "TAKEN"))
    assert hub.state() == before


def test_only_a_writer_of_a_namespace_creates_there_or_moves_there(hub: Hub) -> None:
    olivia, mallory = hub.make_user("olivia"), hub.make_user("mallory")
    hub.make_organization("acme", olivia, [(mallory, OrganizationRole.READ)])
    repositories = hub.services.repositories
    mine = hub.make_repo(mallory, "mine")
    for target in (RepoId("acme", "mine"), RepoId("olivia", "mine"), RepoId("nobody", "mine")):
        with pytest.raises(Forbidden):
            repositories.create(hub.reload(mallory).actor, _MODEL, target)
        with pytest.raises(Forbidden):
            repositories.move(hub.reload(mallory).actor, mine, target)


@pytest.mark.parametrize("name", ["", ".", "..", "a..b", "a--b", "-a", "a/b", "a.git", "é", "a\n"])
def test_a_name_that_clients_would_refuse_is_refused(hub: Hub, name: str) -> None:
    olivia = hub.make_user("olivia")
    before = hub.state()
    with pytest.raises(Invalid):
        hub.make_repo(olivia, name)
    assert hub.state() == before


def test_a_deleted_repository_is_gone_from_rows_and_disk_and_its_id_never_returns(
    hub: Hub,
) -> None:
    olivia = hub.make_user("olivia")
    first = hub.make_repo(olivia, "model", large_files={"a.bin": b"x" * 100})
    repositories = hub.services.repositories
    repositories.delete(olivia.actor, first)
    assert repositories.by_id(first.id) is None
    assert not repositories.git_path(first).exists()
    second = hub.make_repo(olivia, "model")
    assert second.id > first.id


def test_lists_hold_only_what_the_actor_may_know_of(hub: Hub) -> None:
    olivia, mallory = hub.make_user("olivia"), hub.make_user("mallory")
    hub.make_repo(olivia, "open")
    hub.make_repo(olivia, "gated", gate=Gate.MANUAL)
    hub.make_repo(olivia, "secret", private=True)

    def names(actor: Actor) -> set[str]:
        found = hub.services.repositories.list_visible(actor)
        return {repository.repo_id.name for repository in found}

    assert names(ANONYMOUS) == names(mallory.actor) == {"open", "gated"}
    assert names(olivia.actor) == {"open", "gated", "secret"}


@pytest.mark.parametrize("search", ["%", "_", "\\", "op%n"])
def test_a_search_takes_its_words_literally(hub: Hub, search: str) -> None:
    hub.make_repo(hub.make_user("olivia"), "open")
    assert hub.services.repositories.list_visible(ANONYMOUS, search=search) == []
