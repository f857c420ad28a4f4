//! What is special about files; the contract itself is tested for every provider alike.
