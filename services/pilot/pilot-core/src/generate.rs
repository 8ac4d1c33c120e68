//! The table of types: which resources a class of proxies gets, and which of them a change makes anew.
