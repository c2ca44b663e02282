"""Where text comes from, how documents are split and how they become pools of token chunks."""
