"""The network of a configuration: beside a foundation, or alone."""

from __future__ import annotations

from domainsam.errors import ConfigError
from domainsam.protocols import Foundation
from domainsam_scene.model.network import NetworkConfig, SceneNetwork
from domainsam_scene.model.specialist import SpecialistNetwork

AnyNetwork = SceneNetwork | SpecialistNetwork


def build_network(config: NetworkConfig, foundation: Foundation | None) -> AnyNetwork:
    """The network of a configuration, what is trained of it random.

    Raises
    ------
    ConfigError
        If the method stands beside a foundation and there is none, or the trunk is unknown.
    """
    if config.method == "specialist":
        return SpecialistNetwork(config)
    if foundation is None:
        raise ConfigError(f"method {config.method} stands beside a foundation, and there is none: name one")
    return SceneNetwork(config, foundation)
