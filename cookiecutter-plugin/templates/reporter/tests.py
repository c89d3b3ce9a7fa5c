"""What the plugin does."""

from mergecore import Registry


def test_the_plugin_works() -> None:
    [plugin] = [one for one in Registry.discover().plugins() if one.name == "{{ cookiecutter.name }}"]
    assert plugin.status == "active", plugin.reason
