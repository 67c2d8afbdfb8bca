//! The two sublayers of a block, on the tokens of a pass.

use vulpes_ops::decode::{Team, attend_no_grad, project_gated_no_grad, project_no_grad, rotary_no_grad};

use super::angles::Angles;
use super::feed::Feed;
use super::room::{Room, Token, add, multiply, normalize, normed};
use super::row::Ring;
use super::weights::{Weights, side};
use crate::layers::{Attention, FeedForward, Norm, Residual};

/// The attention parameters of a head.
struct Heads {
    k: usize,
    n_head: usize,
    n_group: usize,
    scale: f32,
}

/// The attention sublayer.
pub(super) fn attend(
    attention: &Attention<Weights<'_>>,
    angles: Option<&Angles>,
    (feeds, tokens): (&mut [Feed<'_>], &[Token]),
    layer: usize,
    team: &mut Team,
    room: &mut Room,
) {
    let Attention {
        layer: _,
        residual,
        query,
        key,
        value,
        output,
        query_norm,
        key_norm,
        value_embedding: _,
        d_head,
        n_head,
        n_kv_head,
        scale,
        dropout: _,
    } = attention;
    let (k, n_head, n_group) = (*d_head, *n_head, *n_kv_head);
    let heads = Heads { k, n_head, n_group, scale: *scale as f32 };
    before(residual.before.as_ref(), team, room);
    // Queries, keys and values in one go: the outputs of three matrices, next to each other.
    let stride = (n_head + 2 * n_group) * k;
    room.qkv.resize(tokens.len() * stride, 0.0);
    let sides = [side(query), side(key), side(value)];
    project_no_grad(&sides, &room.normed, room.d, &mut room.qkv, &mut room.inputs, team);
    if query_norm.is_some() || key_norm.is_some() || angles.is_some() {
        team.split(&mut room.qkv, stride, &|first, part| {
            for (n, qkv) in part.chunks_exact_mut(stride).enumerate() {
                let (queries, keys) = (0..n_head * k, n_head * k..(n_head + n_group) * k);
                for (norm, range) in [(query_norm, queries), (key_norm, keys)] {
                    if let Some(norm) = norm {
                        let part = qkv[range.clone()].to_vec();
                        norm.of_parts(&part, &mut qkv[range]);
                    }
                }
                if let Some(Angles { cos, sin, n_pair }) = angles {
                    let position = tokens[first / stride + n].position;
                    let at = position * n_pair..(position + 1) * n_pair;
                    rotary_no_grad(&mut qkv[..(n_head + n_group) * k], k, &cos[at.clone()], &sin[at]);
                }
            }
        });
    }
    room.context.resize(tokens.len() * n_head * k, 0.0);
    // If a window is full, a token's keys overwrite those that the token before it still sees.
    let is_tight = feeds.iter().any(|feed| {
        feed.ids.len() > 1 && {
            let row = &*feed.row;
            row.n_seen + feed.ids.len() > row.layers[layer].n_slot
        }
    });
    let size = if is_tight { 1 } else { tokens.len().max(1) };
    let width = n_head * k;
    for (number, tokens) in tokens.chunks(size).enumerate() {
        let first = number * size;
        for (token, qkv) in tokens.iter().zip(room.qkv[first * stride..].chunks_exact(stride)) {
            keep(&mut feeds[token.feed].row.layers[layer], token.position, qkv, &heads);
        }
        let (feeds, qkv) = (&*feeds, &room.qkv[first * stride..]);
        let context = &mut room.context[first * width..(first + tokens.len()) * width];
        team.split(context, k, &|first, part| {
            for (n, out) in part.chunks_exact_mut(k).enumerate() {
                let (number, head) = ((first / k + n) / n_head, (first / k + n) % n_head);
                let token = &tokens[number];
                let query = &qkv[number * stride + head * k..][..k];
                look(&feeds[token.feed].row.layers[layer], token.position, head, query, &heads, out);
            }
        });
    }
    match output {
        Some(output) => {
            room.out.resize(tokens.len() * room.d, 0.0);
            let out = &mut room.out;
            project_no_grad(&[side(output)], &room.context, width, out, &mut room.inputs, team);
        }
        None => room.out.clone_from(&room.context),
    }
    after(residual, team, room);
}

/// Writes a token's keys and values into their slot.
fn keep(Ring { keys, values, n_slot, .. }: &mut Ring, position: usize, qkv: &[f32], heads: &Heads) {
    let Heads { k, n_head, n_group, scale: _ } = *heads;
    for group in 0..n_group {
        let at = (group * *n_slot + position % *n_slot) * k;
        keys.write(at, &qkv[(n_head + group) * k..][..k]);
        values.write(at, &qkv[(n_head + n_group + group) * k..][..k]);
    }
}

/// The attention of one head of one token.
fn look(
    Ring { keys, values, n_slot, .. }: &Ring,
    position: usize,
    head: usize,
    query: &[f32],
    heads: &Heads,
    out: &mut [f32],
) {
    let Heads { k, n_head, n_group, scale } = *heads;
    let held = (position + 1).min(*n_slot);
    let at = head / (n_head / n_group) * n_slot * k;
    let held_at = at..at + held * k;
    // Enough scores for most contexts, without an allocation.
    let (mut few, mut many) = ([0.0; 512], Vec::new());
    let scores = if held <= few.len() {
        &mut few[..held]
    } else {
        many.resize(held, 0.0);
        &mut many
    };
    attend_no_grad(query, keys.held().part(held_at.clone()), values.held().part(held_at), scale, scores, out);
}

/// The feed-forward sublayer, on `room.normed`.
pub(super) fn feed_forward(inner: &FeedForward<Weights<'_>>, team: &mut Team, room: &mut Room) {
    let FeedForward { layer: _, residual, activation, gate, up, down } = inner;
    let up = side(up);
    let (n, n_inner) = (room.normed.len() / room.d, up.n_out(room.d));
    room.inner.resize(n * n_inner, 0.0);
    project_gated_no_grad(
        (up, gate.as_ref().map(side)),
        *activation,
        &room.normed,
        room.d,
        &mut room.inner,
        &mut room.gates,
        &mut room.inputs,
        team,
    );
    room.out.resize(n * room.d, 0.0);
    project_no_grad(&[side(down)], &room.inner, n_inner, &mut room.out, &mut room.inputs, team);
    after(residual, team, room);
}

/// The input of a sublayer: x, or its norm.
pub(super) fn before(norm: Option<&Norm<Weights<'_>>>, team: &mut Team, room: &mut Room) {
    match norm {
        Some(norm) => normed(norm, &room.x, &mut room.normed, team),
        None => room.normed.clone_from(&room.x),
    }
}

/// Adds a sublayer's output to the residual stream.
fn after(residual: &Residual<Weights<'_>>, team: &mut Team, room: &mut Room) {
    let Residual { before: _, branch, multiplier, after, add: adds, dropout: _ } = residual;
    normalize(branch.as_ref(), &mut room.out, &mut room.normed, team);
    if *multiplier != 1.0 {
        multiply(&mut room.out, *multiplier);
    }
    match adds {
        true => add(&mut room.x, &room.out),
        false => room.x.clone_from(&room.out),
    }
    normalize(after.as_ref(), &mut room.x, &mut room.normed, team);
}
