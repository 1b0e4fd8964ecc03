"""Settings, keys and passwords are not read by a flow, by whatever way or name."""

from pathlib import Path

import msgspec
import pytest

from poeflow.project.private_files import Access, why_private
from poeflow.project.project import FileProblem, Project

DOT = "dot files hold settings and keys"
HINT = "if a model may see it, name it on the command line: --allow-file PATH"


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path.resolve())


def refused(project, canonical):
    path = project.path_of(canonical)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text("text")
    with pytest.raises(FileProblem) as caught:
        project.read_text(canonical)
    with pytest.raises(FileProblem) as sized:
        project.size_of(canonical)
    assert str(caught.value) == str(sized.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", ".ENV", ".netrc", ".npmrc", ".pypirc", ".aws/credentials"),
        *(".ssh/config", "a/.docker/config.json", "..x", ".github/workflows/ci.yml"),
    ],
)
def test_dot_files(project, name):
    assert refused(project, f"//{name}") == f"//{name} is private: {DOT}; {HINT}"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((n, "it is named like a private key or a certificate") for n in ("a.pem", "A.KEY")),
        *((f"x/server.{n}", "it is named like a private key or a certificate") for n in ("p12",)),
        *((n, "it is named like a store of keys") for n in ("a.jks", "b.kdbx", "a.keystore")),
        *((n, "it is named like an SSH key") for n in ("id_rsa", "id_ed25519.pub", "my_rsa")),
        *((n, "it is named like a file of passwords") for n in ("_netrc", "htpasswd")),
        *(
            (n, "it is named like a file of credentials")
            for n in ("credentials", "Credentials.json", "aws-credentials.csv", "secrets.yaml")
        ),
        *((n, "it opens a cloud") for n in ("service-account-1.json", "kubeconfig")),
        *((n, "its kind holds passwords") for n in ("prod.env", "terraform.tfstate", "a.tfvars")),
    ],
)
def test_key_files(project, name, why):
    assert refused(project, f"//{name}") == f"//{name} is private: {why}; {HINT}"


@pytest.mark.parametrize(
    "name",
    [
        *("id_card.png", "credentials.md", "secrets.md", "environment.txt", "keys.md", "a.key.md"),
        *("id_cards/a.md", "env", "my.pem.txt", "secret-garden.txt", "key", "monkey", "x.", "a..b"),
    ],
)
def test_what_only_looks_like_one(project, name):
    path = project.path_of(f"//{name}")
    path.parent.mkdir(exist_ok=True)
    path.write_text("text")
    assert project.read_text(f"//{name}") == "text"
    assert why_private(path.relative_to(project.root).parts) == ""


def test_a_link_is_what_it_leads_to(project):
    project.path_of("//.env").write_text("text")
    project.path_of("//notes.md").symlink_to(".env")
    assert refused(project, "//notes.md") == f"//notes.md is private: {DOT}; {HINT}"
    project.path_of("//plain.md").write_text("text")
    project.path_of("//.linked").symlink_to("plain.md")
    assert refused(project, "//.linked") == f"//.linked is private: {DOT}; {HINT}"


def test_a_file_that_is_not_there_is_refused_all_the_same(project):
    with pytest.raises(FileProblem, match=r"//\.env is private: "):
        project.read_text("//.env")


def test_state_is_still_never_read(project, tmp_path):
    access = Access().allowing(tmp_path / ".git", tmp_path / ".git/config")
    project = msgspec.structs.replace(project, access=access)
    project.path_of("//.git").mkdir()
    project.path_of("//.git/config").write_text("text")
    with pytest.raises(FileProblem, match=r"nothing in \.git is ever read"):
        project.read_text("//.git/config")


def test_what_poeflow_wrote_can_be_looked_at(project):
    project.path_of("//.out.md").write_text("text")
    assert project.peek("//.out.md", limit=10) == b"text"


class TestAccess:
    def test_a_file_the_user_named(self, project, monkeypatch):
        monkeypatch.chdir(project.root)
        for name in (".env", ".other", "key.pem"):
            project.path_of(f"//{name}").write_text("text")
        access = Access().allowing(Path(".env"), Path("key.pem"))
        project = msgspec.structs.replace(project, access=access)
        assert project.read_text("//.env") == "text"
        assert project.read_text("//key.pem") == "text"
        assert refused(project, "//.other") == f"//.other is private: {DOT}; {HINT}"

    def test_a_folder_the_user_named_opens_what_is_no_secret_by_itself(self, project):
        access = Access().allowing(project.root, project.root / ".github")
        project = msgspec.structs.replace(project, access=access)
        project.path_of("//.github").mkdir()
        project.path_of("//.github/ci.yml").write_text("text")
        assert project.read_text("//.github/ci.yml") == "text"
        assert "dot files" in refused(project, "//.github/.env")
        assert "private key" in refused(project, "//.github/a.pem")
        assert "dot files" in refused(project, "//.env")

    def test_the_file_with_this_runs_keys_by_any_link(self, project):
        path = project.path_of("//keys.txt")
        path.write_text("text")
        project.path_of("//hard.txt").hardlink_to(path)
        project.path_of("//soft.txt").symlink_to("keys.txt")
        project.path_of("//other.txt").write_text("text")
        closed = msgspec.structs.replace(project, access=Access().withholding(path))
        for name in ("keys", "hard", "soft"):
            told = f"//{name}.txt is private: it is the file of --env-file; {HINT}"
            assert refused(closed, f"//{name}.txt") == told
        assert closed.read_text("//other.txt") == "text"
        both = msgspec.structs.replace(closed, access=closed.access.allowing(path))
        assert both.read_text("//keys.txt") == "text"
