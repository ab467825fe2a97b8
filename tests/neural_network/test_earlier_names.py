"""Names of MIScnn 1.1 in the interface of the network."""

from __future__ import annotations

import pytest
from small_network import SmallNetwork
from toy import ToyInterface

from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf.errors import ConfigurationError


def test_the_misspelt_learning_rate_is_the_learning_rate():
    preprocessor = Preprocessor(Data_IO(ToyInterface(), "anywhere"), analysis="fullimage", batch_size=1)
    with pytest.warns(
        FutureWarning, match="argument 'learninig_rate' of Neural_Network.*use 'learning_rate'"
    ) as caught:
        network = Neural_Network(preprocessor, SmallNetwork(), learninig_rate=0.25)
    assert caught[0].filename == __file__
    assert network.learning_rate == 0.25
    with pytest.warns(FutureWarning, match="learninig_rate"):
        network.learninig_rate = 0.5
    assert network.learning_rate == 0.5
    with pytest.warns(FutureWarning, match="learninig_rate"):
        assert network.learninig_rate == 0.5
    with pytest.raises(ConfigurationError, match="two names of one argument"):
        Neural_Network(preprocessor, SmallNetwork(), learninig_rate=0.25, learning_rate=0.1)
