"""The hub is asked once, and where it is out of reach the cache or one sentence answers."""

import huggingface_hub
import pytest
from huggingface_hub import errors

from evoprune.core.errors import ModelError
from evoprune.families.hub import only_cached


@pytest.fixture
def hub(monkeypatch):
    """Returns a function that sets what the hub raises, what the cache has and the mode."""
    only_cached.cache_clear()

    def is_(raises=None, cached=None, offline=False):
        def model_info(self, name, **settings):
            if raises is not None:
                raise raises

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: offline)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: cached)

    yield is_
    only_cached.cache_clear()


def refused(*name):
    """Returns the cause with which a name is refused."""
    with pytest.raises(ModelError) as caught:
        only_cached(*name)
    assert caught.value.remedy.endswith((".", "?"))
    return caught.value.cause


def error(kind):
    """Returns an error of the hub's, without the answer that it came from."""
    return kind.__new__(kind)


def test_a_model_of_the_hub_is_read_from_there(hub):
    hub()
    assert not only_cached("owner/model")


def test_without_a_network_only_the_cache_is_read(hub):
    hub(raises=ConnectionError("no route"), cached="/cache/config.json")
    assert only_cached("owner/model")
    hub(offline=True, cached="/cache/config.json")
    assert only_cached("owner/other")


def test_what_is_nowhere_is_said_at_once(hub):
    hub(raises=ConnectionError("no route."))
    assert refused("owner/model").endswith("and the hub cannot be reached: no route.")
    hub(offline=True)
    assert refused("owner/model").endswith("and HF_HUB_OFFLINE is set.")


def test_what_the_hub_does_not_have_is_no_matter_of_the_network(hub):
    hub(raises=error(errors.RepositoryNotFoundError), cached="/cache/config.json")
    assert "and the hub shows none" in refused("owner/model")
    hub(raises=error(errors.RevisionNotFoundError))
    assert refused("owner/model", "v2") == "The model 'owner/model' has no revision 'v2'."
