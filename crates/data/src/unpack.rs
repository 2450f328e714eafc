use std::io::Read;

/// How a piece of a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Snappy,
    Gzip,
    Zstd,
    Lz4Block,
    Lz4Frame,
}

impl Codec {
    /// Bytes that one packed byte unpacks to at most, by the format.
    fn most(self) -> usize {
        match self {
            Self::Snappy => 64,
            Self::Lz4Block | Self::Lz4Frame => 255,
            Self::Gzip => 1032,
            // a block of 128 KiB, all alike, in its header and that byte
            Self::Zstd => 1 << 15,
        }
    }

    /// Whether `packed` bytes can unpack to `size`.
    pub(crate) fn can_hold(self, packed: u64, size: usize) -> bool {
        (size / self.most()) as u64 <= packed
    }
}

/// Unpacks to exactly `size` bytes; no more is allocated than the piece can hold, whatever `size` claims.
pub(crate) fn unpack(codec: Codec, packed: &[u8], size: usize) -> Result<Vec<u8>, String> {
    if !codec.can_hold(packed.len() as u64, size) {
        return Err(format!("{} bytes cannot hold {size}", packed.len()));
    }
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let (bytes, length) = match codec {
        Codec::Snappy => {
            let mut bytes = vec![0; size];
            let length =
                snap::raw::Decoder::new().decompress(packed, &mut bytes).map_err(|error| said(&error))?;
            (bytes, length)
        }
        Codec::Lz4Block => {
            let mut bytes = vec![0; size];
            let length =
                lz4_flex::block::decompress_into(packed, &mut bytes).map_err(|error| said(&error))?;
            (bytes, length)
        }
        Codec::Gzip => grow(flate2::read::MultiGzDecoder::new(packed), size, packed.len())?,
        Codec::Lz4Frame => grow(lz4_flex::frame::FrameDecoder::new(packed), size, packed.len())?,
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|error| said(&error))?;
            grow(decoder, size, packed.len())?
        }
    };
    if length != size {
        return Err(format!("it unpacks to other than the {size} bytes it names"));
    }
    Ok(bytes)
}

/// Reads up to one byte more than `size`, with memory for what comes.
fn grow(reader: impl Read, size: usize, packed: usize) -> Result<(Vec<u8>, usize), String> {
    let mut bytes = Vec::with_capacity(size.min(packed.saturating_mul(4)) + 1);
    reader.take(size as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let length = bytes.len();
    Ok((bytes, length))
}
