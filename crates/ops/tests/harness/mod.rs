//! The harness of every operation: fast form against reference, backward pass against autograd and central differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use vulpes_ops::threads::n_fast_forms;
use vulpes_ops::{Gradients, backward};
use vulpes_random::Key;

/// A differentiable function of tensors.
pub(crate) type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// One operation at one shape: both forms, and float64 values of the differentiable inputs.
pub(crate) struct Case<'a> {
    pub(crate) name: String,
    pub(crate) fast: Function<'a>,
    pub(crate) reference: Function<'a>,
    pub(crate) inputs: Vec<Tensor>,
}

/// Normally distributed float64 values, determined by the key.
pub(crate) fn normal(key: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(key, "harness").stream();
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The largest magnitude among the elements.
fn size(x: &Tensor) -> f64 {
    values(x).iter().fold(0.0, |size: f64, x| size.max(x.abs()))
}

/// The largest difference of two elements relative to `size`: NaN if either tensor contains one.
fn distance(found: &Tensor, expected: &Tensor, size: f64) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (values(found), values(expected));
    let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    largest.fold(0f64, |worst, d: f64| if d.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(d) })
        / size.max(f64::MIN_POSITIVE)
}

/// The scale of each gradient's error: its largest element. A gradient that is zero in theory, like that of a key's
/// bias, consists of rounding errors; its scale is the largest of all, or, if all are zero, that of the output's
/// gradient, which is about 1.
fn sizes(exact: &[Tensor]) -> Vec<f64> {
    let own: Vec<f64> = exact.iter().map(size).collect();
    let largest = own.iter().copied().fold(0.0, f64::max);
    let largest = if largest > 1e-12 { largest } else { 1.0 };
    own.into_iter().map(|own| if own > 1e-12 * largest { own } else { largest }).collect()
}

/// How an input reaches the operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// As the parameter itself.
    Plain,
    /// With another element order in memory, as the result of another operation.
    Transposed,
    /// As the inner part of a larger tensor.
    Narrowed,
}

/// Derives an operation's input from the differentiated variable.
type Rearranged = Box<dyn Fn(&Var) -> Result<Tensor>>;

/// The parameter behind an input, and how the input is derived from it.
fn arrange(x: &Tensor, layout: Layout) -> (Var, Rearranged) {
    let rank = x.rank();
    match layout {
        Layout::Transposed if rank >= 2 => {
            let stored = x.transpose(0, rank - 1).unwrap().force_contiguous().unwrap();
            (Var::from_tensor(&stored).unwrap(), Box::new(move |var| var.transpose(0, rank - 1)))
        }
        // (candle itself can't read the inner part of an empty tensor.)
        Layout::Narrowed if rank >= 1 && x.elem_count() > 0 => {
            let (last, n) = (rank - 1, x.dim(rank - 1).unwrap());
            let side = x.narrow(last, 0, n.min(1)).unwrap();
            let wide = Tensor::cat(&[&side, x, &side], last).unwrap();
            let offset = side.dim(last).unwrap();
            (Var::from_tensor(&wide).unwrap(), Box::new(move |var| var.narrow(last, offset, n)))
        }
        _ => (Var::from_tensor(x).unwrap(), Box::new(|var| Ok(var.as_tensor().clone()))),
    }
}

/// The results of one form of an operation.
struct Outcome {
    y: Tensor,
    /// The gradient of each parameter by candle's backward.
    theirs: Vec<Tensor>,
    /// The gradient of each parameter by our backward pass.
    ours: Vec<Tensor>,
    /// The number of fast forms that the forward pass ran.
    n_fast: u64,
}

fn run(f: Function, vars: &[Var], make: &[Rearranged], twice: bool) -> Result<Outcome> {
    let forward = || -> Result<(Tensor, Tensor)> {
        let inputs: Vec<Tensor> =
            vars.iter().zip(make).map(|(var, make)| make(var)).collect::<Result<_>>()?;
        let y = f(&inputs)?;
        let upstream = |key| normal(key, y.dims()).to_dtype(y.dtype());
        let loss = (&y * upstream(91)?)?.sum_all()?;
        // The result's square yields a second gradient, which depends on the result itself.
        let loss = if twice { (loss + (y.sqr()? * upstream(92)?)?.sum_all()?)? } else { loss };
        Ok((y, loss))
    };
    let zero = |var: &Var| var.zeros_like();
    let before = n_fast_forms();
    let (y, loss) = forward()?;
    let n_fast = n_fast_forms() - before;
    let store = loss.backward()?;
    let theirs = vars
        .iter()
        .map(|var| store.get(var).cloned().map_or_else(|| zero(var), Ok))
        .collect::<Result<Vec<_>>>()?;
    let named: Vec<(String, Var)> =
        vars.iter().enumerate().map(|(i, v)| (i.to_string(), v.clone())).collect();
    let mut gradients = Gradients::new(&named)?;
    // Twice, since the first pass writes to the buffers and the second adds to them.
    backward(&forward()?.1, &mut gradients)?;
    gradients.zero();
    backward(&forward()?.1, &mut gradients)?;
    backward(&forward()?.1, &mut gradients)?;
    let ours = gradients
        .iter()
        .zip(vars)
        .map(|((_, sum), var)| sum.map_or_else(|| zero(var), |sum| sum * 0.5))
        .collect::<Result<Vec<_>>>()?;
    Ok(Outcome { y, theirs, ours, n_fast })
}

/// `(f(x + h) − f(x − h)) / 2h` for every element of every input, extrapolated from two widths so that the error is
/// of fourth order.
fn central_differences(f: Function, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let loss = |inputs: &[Tensor]| -> Result<f64> {
        let y = f(inputs)?;
        (&y * normal(91, y.dims()))?.sum_all()?.to_scalar::<f64>()
    };
    let mut out = Vec::new();
    for which in 0..inputs.len() {
        let base = values(&inputs[which]);
        let slope = |at: usize, h: f64| -> Result<f64> {
            let at_offset = |offset: f64| -> Result<f64> {
                let mut moved = base.clone();
                moved[at] += offset;
                let mut inputs = inputs.to_vec();
                inputs[which] = Tensor::from_vec(moved, inputs[which].shape(), &Device::Cpu)?;
                loss(&inputs)
            };
            Ok((at_offset(h)? - at_offset(-h)?) / (2.0 * h))
        };
        let h = 1e-3;
        let slopes = (0..base.len())
            .map(|at| Ok((4.0 * slope(at, h / 2.0)? - slope(at, h)?) / 3.0))
            .collect::<Result<Vec<f64>>>()?;
        out.push(Tensor::from_vec(slopes, inputs[which].shape(), &Device::Cpu)?);
    }
    Ok(out)
}

/// Everything that an operation must pass.
pub(crate) fn check(case: &Case) {
    check_within(case, 1e-6)
}

/// [`check`] with another bound on the relative error against central differences.
pub(crate) fn check_within(case: &Case, bound: f64) {
    let name = &case.name;
    let run_named = |f, vars: &[Var], make: &[Rearranged], twice, context: &str| {
        run(f, vars, make, twice).unwrap_or_else(|e| panic!("{context}: {e}"))
    };
    let (vars, make): (Vec<_>, Vec<_>) = case.inputs.iter().map(|x| arrange(x, Layout::Plain)).unzip();
    let exact =
        [false, true].map(|twice| sizes(&run_named(case.reference, &vars, &make, twice, name).theirs));
    for dtype in [DType::F64, DType::F32] {
        // In float32 both forms round. A gradient in which large terms cancel, such as a query's, is accurate to 1e-3
        // of its largest element (a drawn case through a norm of heads was off by 2.3e-4), or to the reference's own
        // error compared with float64; float64 shows whether the formulas are the same.
        let tolerance = if dtype == DType::F64 { 1e-11 } else { 2e-4 };
        let inputs: Vec<Tensor> = case.inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        for layout in [Layout::Plain, Layout::Transposed, Layout::Narrowed] {
            for twice in [false, true] {
                let context = format!("{name}, {dtype:?}, {layout:?}, result used twice: {twice}");
                let (vars, make): (Vec<_>, Vec<_>) = inputs.iter().map(|x| arrange(x, layout)).unzip();
                let found = run_named(case.fast, &vars, &make, twice, &context);
                let expected = run_named(case.reference, &vars, &make, twice, &context);
                let (vars, make): (Vec<_>, Vec<_>) = case.inputs.iter().map(|x| arrange(x, layout)).unzip();
                let in_float64 = run_named(case.reference, &vars, &make, twice, &context);
                // (Without elements there may be nothing to run.)
                assert!(
                    found.n_fast > 0 || found.y.elem_count() == 0,
                    "{context}: the fast form did not run"
                );
                assert_eq!(expected.n_fast, 0, "{context}: the reference contains fast forms");
                assert_eq!(found.y.dtype(), dtype, "{context}");
                let off = distance(&found.y, &expected.y, size(&expected.y));
                assert!(
                    off <= tolerance,
                    "{context}: the result is off by {off:e}: {} is not {}",
                    found.y,
                    expected.y
                );
                for (i, (expected, &size)) in
                    expected.theirs.iter().zip(&exact[usize::from(twice)]).enumerate()
                {
                    let of_plain = distance(expected, &in_float64.theirs[i], size);
                    let tolerance = if dtype == DType::F64 { tolerance } else { 1e-3f64.max(4.0 * of_plain) };
                    for (how, found) in
                        [("candle's backward", &found.theirs[i]), ("ops::backward", &found.ours[i])]
                    {
                        let off = distance(found, expected, size);
                        assert!(
                            off <= tolerance,
                            "{context}: gradient {i} by {how} is off by {off:e}: {found} is not {expected}"
                        );
                    }
                }
            }
        }
    }
    // Without parameters there is nothing to record.
    let y = (case.fast)(&case.inputs).unwrap();
    assert!(!y.track_op(), "{name}: a result of constants is on the tape");

    let analytic = run_named(case.fast, &vars, &make, false, name).theirs;
    let numeric = central_differences(case.fast, &case.inputs).unwrap();
    for (i, (analytic, numeric)) in analytic.iter().zip(&numeric).enumerate() {
        let off = distance(analytic, numeric, exact[0][i]);
        assert!(
            off <= bound,
            "{name}: gradient {i} is off by {off:e} from central differences: {analytic} is not {numeric}"
        );
    }
}

/// An operation and its reference through the harness, named with the shapes of its inputs.
pub(crate) fn pass_through(
    name: &str,
    inputs: Vec<Tensor>,
    fast: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    reference: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    check(&Case {
        name: format!("{name} {:?}", inputs.iter().map(Tensor::dims).collect::<Vec<_>>()),
        fast,
        reference,
        inputs,
    });
}

/// Runs `$name` through the harness: `|x| expression` with `op` standing for the fast form and for the reference.
macro_rules! through {
    ($name:ident, [$($input:expr),* $(,)?], |$op:ident, $x:ident| $call:expr) => {
        through!($name, vec![$($input),*], |$op, $x| $call)
    };
    ($name:ident, $inputs:expr, |$op:ident, $x:ident| $call:expr) => {{
        let fast = |$x: &[Tensor]| -> Result<Tensor> { use ops::$name as $op; $call };
        let plain = |$x: &[Tensor]| -> Result<Tensor> { use reference::$name as $op; $call };
        crate::harness::pass_through(stringify!($name), $inputs, &fast, &plain);
    }};
}
pub(crate) use through;
