//! zombie
