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

/// Unpacks to exactly `size` bytes in `out`, whose memory is used again; no more is allocated than the piece can hold,
/// whatever `size` claims.
pub(crate) fn unpack(codec: Codec, packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), String> {
    if !codec.can_hold(packed.len() as u64, size) {
        return Err(format!("{} bytes cannot hold {size}", packed.len()));
    }
    let length = match codec {
        Codec::Snappy => {
            out.resize(size, 0);
            snap::raw::Decoder::new().decompress(packed, out).map_err(|error| error.to_string())?
        }
        Codec::Lz4Block => {
            out.resize(size, 0);
            lz4_flex::block::decompress_into(packed, out).map_err(|error| error.to_string())?
        }
        Codec::Lz4Frame => {
            out.resize(size, 0);
            lz4_frame(packed, out).ok_or("it is no LZ4 frame of that size")?
        }
        Codec::Gzip => grow(flate2::read::MultiGzDecoder::new(packed), size, packed.len(), out)?,
        Codec::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::with_buffer(packed).map_err(|error| error.to_string())?;
            grow(decoder, size, packed.len(), out)?
        }
    };
    if length == size { Ok(()) } else { Err(format!("it unpacks to other than the {size} bytes it names")) }
}

/// Unpacks a frame of LZ4 blocks straight to where it goes: the crate's own reader of frames copies everything twice more.
/// Checksums, which Arrow does not write, are passed over. `None` for what is damaged or larger.
fn lz4_frame(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
    /// How far back a block may reach into those before it.
    const REACH: usize = 64 * 1024;
    const IS_RAW: u32 = 1 << 31;
    let (flags, packed) = packed.strip_prefix(&MAGIC)?.split_first()?;
    let has = |bit: u8| flags >> bit & 1 == 1;
    let (is_version_1, are_linked, has_block_sums, has_size, has_dictionary) =
        (flags >> 6 == 1, !has(5), has(4), has(3), has(0));
    if !is_version_1 || has_dictionary {
        return None;
    }
    let mut left = packed.get(if has_size { 10 } else { 2 }..)?;
    let mut done = 0;
    loop {
        let (word, rest) = left.split_first_chunk()?;
        let word = u32::from_le_bytes(*word);
        if word == 0 {
            return (rest.len() >= if has(2) { 4 } else { 0 }).then_some(done);
        }
        let (block, rest) = rest.split_at_checked((word & !IS_RAW) as usize)?;
        left = rest.get(if has_block_sums { 4 } else { 0 }..)?;
        let (before, free) = out.split_at_mut(done);
        done += if word & IS_RAW != 0 {
            free.get_mut(..block.len())?.copy_from_slice(block);
            block.len()
        } else if are_linked {
            let reach = &before[done.saturating_sub(REACH)..];
            lz4_flex::block::decompress_into_with_dict(block, free, reach).ok()?
        } else {
            lz4_flex::block::decompress_into(block, free).ok()?
        };
    }
}

/// Reads `size` bytes and looks for one more, with memory for what comes; the number of bytes read.
fn grow(mut reader: impl Read, size: usize, packed: usize, out: &mut Vec<u8>) -> Result<usize, String> {
    let likely = out.capacity().max(packed.saturating_mul(8)).max(1 << 16);
    out.resize(size.min(likely), 0);
    let mut length = 0;
    loop {
        if length == out.len() && length < size {
            out.resize(size.min(length * 2), 0);
        }
        let mut more = [0];
        let target = if length < size { &mut out[length..] } else { &mut more[..] };
        match reader.read(target).map_err(|error| error.to_string())? {
            0 => return Ok(length),
            _ if length == size => return Ok(size + 1),
            read => length += read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::Codec;

    /// Half of it repeats what came long before, half is noise.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        let mut bytes: Vec<u8> = Vec::with_capacity(length);
        while bytes.len() < length {
            if bytes.len() % 200_000 < 90_000 && bytes.len() > 50_000 {
                bytes.push(bytes[bytes.len() - 50_000]);
            } else {
                bytes.push(noise());
            }
        }
        bytes
    }

    fn unpack(codec: Codec, packed: &[u8], size: usize) -> Result<Vec<u8>, String> {
        let mut out = vec![7; 1000];
        super::unpack(codec, packed, size, &mut out).map(|()| out)
    }

    #[test]
    fn frames_of_every_kind() {
        for (length, size, mode, sums) in [
            (0, BlockSize::Max64KB, BlockMode::Linked, false),
            (1, BlockSize::Max64KB, BlockMode::Linked, true),
            (1_000_000, BlockSize::Max64KB, BlockMode::Linked, false),
            (1_000_000, BlockSize::Max64KB, BlockMode::Independent, true),
            (700_001, BlockSize::Max256KB, BlockMode::Linked, true),
            (700_001, BlockSize::Max4MB, BlockMode::Independent, false),
        ] {
            let content = content(length);
            let info = FrameInfo::new()
                .block_size(size)
                .block_mode(mode)
                .block_checksums(sums)
                .content_checksum(sums);
            let info = info.content_size(sums.then_some(length as u64));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&content).unwrap();
            let packed = encoder.finish().unwrap();
            assert!(unpack(Codec::Lz4Frame, &packed, length).unwrap() == content, "{length} {mode:?}");
            assert!(unpack(Codec::Lz4Frame, &packed, length + 1).is_err());
            assert!(length == 0 || unpack(Codec::Lz4Frame, &packed, length - 1).is_err());
            for cut in (0..packed.len()).step_by(packed.len() / 50 + 1) {
                assert!(unpack(Codec::Lz4Frame, &packed[..cut], length).is_err(), "{length} cut at {cut}");
            }
        }
    }

    #[test]
    fn streams_grow_to_what_they_hold_and_no_more() {
        let content = content(300_000);
        let zstd = zstd::stream::encode_all(&content[..], 1).unwrap();
        assert!(unpack(Codec::Zstd, &zstd, content.len()).unwrap() == content);
        for wrong in [0, 1, content.len() - 1, content.len() + 1, 1 << 33] {
            assert!(unpack(Codec::Zstd, &zstd, wrong).is_err(), "{wrong}");
        }
        let zeros = zstd::stream::encode_all(&vec![0; 10_000_000][..], 1).unwrap();
        assert!(
            zeros.len() < 5_000 && unpack(Codec::Zstd, &zeros, 10_000_000).unwrap() == vec![0; 10_000_000]
        );
    }
}
